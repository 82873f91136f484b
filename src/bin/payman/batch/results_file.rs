//! The CSV file with what became of each row.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::report::RowResult;

const HEADER: [&str; 6] = ["idempotency_key", "outcome", "task_id", "status", "answer", "error"];

/// The file of results.
///
/// It is replaced once, at the end, with the rows in the order of the input. Until then each row
/// is appended to a file beside it as the row ends, so that a batch that is killed loses neither
/// the rows that are known nor the results of an earlier run.
pub(super) struct ResultsFile {
    target: PathBuf,
    destination: Destination,
}

enum Destination {
    /// Rows are appended here until the end.
    Partial { path: PathBuf, file: File },
    /// A pipe or a device, which cannot be replaced: it receives all rows at the end.
    Special(File),
}

impl ResultsFile {
    /// Opens the file before the first ask, so that it is known to be writable.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        // The file that a symbolic link names is replaced, and not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
            let destination = Destination::Special(OpenOptions::new().write(true).open(&target)?);
            return Ok(Self { target, destination });
        }
        let path = partial_path(&target);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut start = Vec::new();
        if file.metadata()?.len() == 0 {
            start = to_csv(&HEADER)?;
        } else if !ends_with_line_end(&mut file)? {
            // The last write of a run that was killed.
            start.push(b'\n');
        }
        file.write_all(&start)?;
        Ok(Self { target, destination: Destination::Partial { path, file } })
    }

    /// Returns the file that has the rows if the batch does not reach its end.
    pub(super) fn partial(&self) -> Option<&Path> {
        match &self.destination {
            Destination::Partial { path, .. } => Some(path),
            Destination::Special(_) => None,
        }
    }

    /// Appends a row that has ended, in one write.
    pub(super) fn append(&mut self, result: &RowResult) -> io::Result<()> {
        match &mut self.destination {
            Destination::Partial { file, .. } => file.write_all(&to_csv(&result.to_record())?),
            Destination::Special(_) => Ok(()),
        }
    }

    /// Writes all rows in the order of the input, and replaces the file with them.
    pub(super) fn finish(self, results: &mut [RowResult]) -> io::Result<()> {
        results.sort_by_key(|result| result.row.line);
        match self.destination {
            Destination::Special(file) => write_all(file, results).map(drop),
            Destination::Partial { path, .. } => {
                let new = with_suffix(&self.target, &format!(".{}.tmp", std::process::id()));
                let written = replace(&self.target, &new, results);
                // After a failure the appended rows stay. A file that is left over does no harm.
                let _ = fs::remove_file(if written.is_ok() { path } else { new });
                written
            }
        }
    }
}

/// Returns the path of the file that a batch under way appends to.
pub(super) fn partial_path(results: &Path) -> PathBuf {
    with_suffix(results, ".partial")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn ends_with_line_end(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn to_csv<T: AsRef<[u8]>>(record: &[T]) -> io::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(record).map_err(io::Error::other)?;
    writer.into_inner().map_err(|error| error.into_error())
}

fn write_all(to: File, results: &[RowResult]) -> io::Result<File> {
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(HEADER).map_err(io::Error::other)?;
    for result in results {
        writer.write_record(result.to_record()).map_err(io::Error::other)?;
    }
    writer.into_inner().map_err(|error| error.into_error())
}

fn replace(target: &Path, new: &Path, results: &[RowResult]) -> io::Result<()> {
    let file = write_all(File::create(new)?, results)?;
    if let Ok(metadata) = fs::metadata(target) {
        file.set_permissions(metadata.permissions())?;
    }
    file.sync_all()?;
    fs::rename(new, target)
}
