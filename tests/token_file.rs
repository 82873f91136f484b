//! The paths of a token file: however it is named, it is one file with one lock.
#![cfg(test)]
#![cfg(unix)]

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use payman_sdk::{Client, Config, Emulator, Error, ErrorKind, FileTokenStore, TokenInfo};
use secrecy::ExposeSecret;

const PLAN: &str = "PAYMAN_TEST_TOKEN_FILE_PLAN";
const MARK: &str = "result of a child: ";

fn config(base_url: &str, path: impl Into<PathBuf>) -> Config {
    let config = Config::new("client-id").base_url(base_url).subject("alice");
    config.token_store(FileTokenStore::new(path))
}

/// Returns the text of an error and its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The instructions for a child process with a token file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Plan {
    path: PathBuf,
    /// The directory to change to once the store is created.
    directory: Option<PathBuf>,
    base_url: String,
}

/// Runs `child_process` in a directory.
fn child(mut command: Command, directory: &Path, plan: &Plan) -> Output {
    command.args(["--exact", "child_process", "--nocapture"]).current_dir(directory);
    command.env(PLAN, serde_json::to_string(plan).unwrap()).output().unwrap()
}

fn result_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.split_once(MARK));
    result.unwrap_or_else(|| panic!("no result: {output:?}")).1.to_owned()
}

/// Runs as a process of its own, because the current directory belongs to a process. Does nothing
/// without a plan.
#[tokio::test]
async fn child_process() {
    let Ok(plan) = std::env::var(PLAN) else {
        return;
    };
    let plan: Plan = serde_json::from_str(&plan).unwrap();
    let client = Client::with_token(config(&plan.base_url, plan.path), TokenInfo::stored());
    if let Some(directory) = plan.directory {
        std::env::set_current_dir(directory).unwrap();
    }
    let client = client.unwrap();
    let result = match client.ask("What's my balance?").await {
        Ok(_) => format!("refresh token {}", client.refresh_token().unwrap().expose_secret()),
        Err(error) => format!("{:?}: {}", error.kind(), chain(&error)),
    };
    println!("{MARK}{result}");
}

/// Signs a user in at a path, and spends the first refresh token.
async fn sign_in(payman: &Emulator, path: &Path) {
    let token = TokenInfo::refresh_only(payman.issue_refresh_token(["read_balance"]));
    let client = Client::with_token(config(payman.base_url(), path), token).unwrap();
    client.access_token().await.unwrap();
}

/// Returns the refresh token in a file.
fn stored(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let rest = text.split_once(r#""refresh_token":""#).unwrap().1;
    rest.split_once('"').unwrap().0.to_owned()
}

async fn rotating() -> Emulator {
    Emulator::builder().rotate_refresh_tokens().start().await.unwrap()
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relative_path_is_of_the_directory_in_which_the_store_was_created() {
    let payman = rotating().await;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(at("home/inner")).unwrap();
    std::fs::create_dir(at("elsewhere")).unwrap();
    symlink("tokens.json", at("home/link.json")).unwrap();
    symlink("../home", at("elsewhere/home")).unwrap();
    sign_in(&payman, &at("home/tokens.json")).await;
    for path in
        ["tokens.json", "./tokens.json", "inner/../tokens.json", "../home/tokens.json", "link.json"]
    {
        payman.expire_access_tokens();
        let before = stored(&at("home/tokens.json"));
        let plan = Plan {
            path: path.into(),
            directory: Some(at("elsewhere")),
            base_url: payman.base_url().to_owned(),
        };
        let result = result_of(&child(this_program(), &at("home"), &plan));
        let after = stored(&at("home/tokens.json"));
        assert_eq!(result, format!("refresh token {after}"), "{path}");
        assert_ne!(before, after, "{path}");
        let elsewhere = std::fs::read_dir(at("elsewhere")).unwrap().count();
        assert_eq!(elsewhere, 1, "{path}: nothing was written there");
    }
    assert_eq!(payman.state().refresh_reuses, 0);
}

#[tokio::test]
async fn every_name_of_the_file_leads_to_one_file_and_one_lock() {
    let payman = rotating().await;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir_all(at("real/inner")).unwrap();
    symlink("real/tokens.json", at("link.json")).unwrap();
    symlink(at("link.json"), at("link to a link.json")).unwrap();
    symlink("real", at("folder")).unwrap();
    symlink("folder", at("link to a folder")).unwrap();
    symlink("../../link.json", at("real/inner/up.json")).unwrap();
    let names = [
        "link.json",
        "link to a link.json",
        "folder/tokens.json",
        "link to a folder/tokens.json",
        "link to a folder/inner/up.json",
        "real/inner/../tokens.json",
        "folder/inner/../../real/./tokens.json",
        "real/tokens.json",
    ];
    // Before the file exists, by a name that is a link.
    sign_in(&payman, &at("link to a link.json")).await;
    for name in names {
        payman.expire_access_tokens();
        let client =
            Client::with_token(config(payman.base_url(), at(name)), TokenInfo::stored()).unwrap();
        client.ask("What's my balance?").await.unwrap();
        let newest = client.refresh_token().unwrap();
        assert_eq!(stored(&at("real/tokens.json")), newest.expose_secret(), "{name}");
    }
    for link in ["link.json", "link to a link.json", "folder", "real/inner/up.json"] {
        assert!(std::fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link} stays a link");
    }
    let names_in = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names_in(&at("real")), ["inner", "tokens.json", "tokens.json.lock"]);
    assert_eq!(names_in(&at("real/inner")), ["up.json"]);
    let top = ["folder", "link to a folder", "link to a link.json", "link.json", "real"];
    assert_eq!(names_in(directory.path()), top);
    let state = payman.state();
    assert_eq!((state.refresh_reuses, state.token_requests), (0, 1 + names.len() as u64));
}

/// Two names of one file cannot be kept together by replacing it.
#[tokio::test]
async fn a_hard_link_is_refused_before_anything_is_spent() {
    let payman = rotating().await;
    let directory = tempfile::tempdir().unwrap();
    let (path, other) = (directory.path().join("tokens.json"), directory.path().join("other.json"));
    sign_in(&payman, &path).await;
    std::fs::hard_link(&path, &other).unwrap();
    let (before, requests) = (std::fs::read(&path).unwrap(), payman.state().token_requests);
    for name in [&path, &other] {
        payman.expire_access_tokens();
        let client =
            Client::with_token(config(payman.base_url(), name), TokenInfo::stored()).unwrap();
        let error = client.ask("What's my balance?").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenStore, "{error:?}");
        assert!(error.is_safe_to_ask_again() && chain(&error).contains("hard link"), "{error:?}");
    }
    assert_eq!(payman.state().token_requests, requests, "nothing was spent");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::metadata(&path).unwrap().nlink(), 2);
    std::fs::remove_file(&other).unwrap();
    let client = Client::with_token(config(payman.base_url(), &path), TokenInfo::stored()).unwrap();
    client.ask("What's my balance?").await.unwrap();
}

#[tokio::test]
async fn a_path_that_names_no_file_is_an_error_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    symlink("loop.json", directory.path().join("loop.json")).unwrap();
    for path in [inner.join(".."), inner.join("."), inner.clone(), "".into()]
        .into_iter()
        .chain([directory.path().join("loop.json"), directory.path().join("loop.json/tokens.json")])
    {
        let token = TokenInfo::refresh_only("refresh");
        let client = Client::with_token(config("http://127.0.0.1:9", &path), token).unwrap();
        let error = client.access_token().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenStore, "{path:?}: {error:?}");
        assert!(chain(&error).contains("token file"), "{path:?}: {}", chain(&error));
    }
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 0);
    let names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// A single file that is mounted by itself, as containers do it, cannot be replaced. The mount is
/// in a namespace of the child's own.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_mounted_by_itself_is_an_error_that_says_so() {
    const MOUNT: &str = r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#;

    let payman = rotating().await;
    let directory = tempfile::tempdir().unwrap();
    let (real, mounted) =
        (directory.path().join("real.json"), directory.path().join("tokens.json"));
    sign_in(&payman, &real).await;
    std::fs::write(&mounted, "").unwrap();
    let in_namespace = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]);
        command.args([&*real, &mounted, program]);
        command
    };
    match in_namespace(Path::new("true")).output() {
        Ok(output) if output.status.success() => {}
        other => {
            eprintln!("skipped: nothing can be mounted here: {other:?}");
            return;
        }
    }
    payman.expire_access_tokens();
    let (before, requests) = (std::fs::read(&real).unwrap(), payman.state().token_requests);

    let plan =
        Plan { path: mounted.clone(), directory: None, base_url: payman.base_url().to_owned() };
    let program = std::env::current_exe().unwrap();
    let result = result_of(&child(in_namespace(&program), directory.path(), &plan));
    assert!(result.starts_with("TokenStore: "), "{result}");
    assert!(result.contains("is a mount point") && result.contains("its directory"), "{result}");
    assert_eq!(payman.state().token_requests, requests, "nothing was spent");
    assert_eq!(std::fs::read(&real).unwrap(), before);
    assert!(!directory.path().join("tokens.json.new").exists());
}
