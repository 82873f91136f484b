//! Reads the lines that a person types, or that are piped in.

use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};
use tokio::sync::mpsc;

use super::terminal_mode::TerminalMode;
use crate::command_failure::CommandFailure;
use crate::folder;
use crate::output::print_text;

const MAX_HISTORY: usize = 1000;
const MAX_LINE_BYTES: u64 = 1024 * 1024;
/// The maximum number of lines that are read ahead.
const MAX_LINES_AHEAD: usize = 256;

/// The result of reading a line.
pub(super) enum PromptLine {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the input.
    End,
}

pub(super) enum Prompt {
    /// A terminal: editing and history.
    Editor(Box<LineEditor>),
    /// A pipe, or a terminal that cannot move its cursor.
    Lines(LineReader),
}

impl Prompt {
    pub(super) fn new(history: Option<PathBuf>) -> Result<Self, CommandFailure> {
        if std::io::stdin().is_terminal() && !is_unsupported_terminal() {
            return Ok(Self::Editor(Box::new(LineEditor::new(history)?)));
        }
        Ok(Self::Lines(LineReader::start()))
    }

    /// Reads the next line.
    pub(super) async fn read(&mut self, sign: &'static str) -> Result<PromptLine, CommandFailure> {
        match self {
            Self::Editor(editor) => editor.read(sign).await,
            Self::Lines(lines) => lines.read(sign).await,
        }
    }

    /// Returns true where a person types, rather than a script.
    pub(super) fn is_terminal(&self) -> bool {
        match self {
            Self::Editor(_) => true,
            Self::Lines(lines) => lines.is_terminal,
        }
    }

    /// Takes the lines that were read ahead.
    pub(super) fn take_ahead(&mut self) -> Vec<String> {
        match self {
            Self::Editor(_) => Vec::new(),
            Self::Lines(lines) => lines.take_ahead(),
        }
    }
}

fn is_unsupported_terminal() -> bool {
    std::env::var("TERM").is_ok_and(|term| ["dumb", "cons25", "emacs"].contains(&term.as_str()))
}

/// Reads lines in a thread, so that the rest of the program continues.
pub(super) struct LineEditor {
    /// `None` while a line is read.
    editor: Option<DefaultEditor>,
    history: Option<PathBuf>,
    mode: TerminalMode,
}

/// Restores the terminal if a line is still being edited, because its thread does not.
impl Drop for LineEditor {
    fn drop(&mut self) {
        if self.editor.is_none() {
            self.mode.restore();
        }
    }
}

impl LineEditor {
    fn new(history: Option<PathBuf>) -> Result<Self, CommandFailure> {
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .map(|config| config.history_ignore_space(true).auto_add_history(true).build())
            .map_err(unusable)?;
        let mut editor = DefaultEditor::with_config(config).map_err(unusable)?;
        let history = history.or_else(|| folder::file("history"));
        if let Some(path) = &history {
            // A conversation continues without a history that cannot be written.
            let _ = folder::create_for(path);
            let _ = editor.load_history(path);
        }
        Ok(Self { editor: Some(editor), history, mode: TerminalMode::save() })
    }

    async fn read(&mut self, sign: &'static str) -> Result<PromptLine, CommandFailure> {
        let Some(mut editor) = self.editor.take() else {
            return Ok(PromptLine::End);
        };
        let history = self.history.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let line = editor.readline(sign);
            if let (Ok(_), Some(path)) = (&line, &history) {
                let _ = editor.append_history(path);
            }
            (editor, line)
        });
        let (editor, line) = reading
            .await
            .map_err(|error| CommandFailure::other("the prompt failed").because(&error))?;
        self.editor = Some(editor);
        match line {
            Ok(line) => Ok(PromptLine::Text(line)),
            Err(ReadlineError::Interrupted) => Ok(PromptLine::Interrupted),
            Err(ReadlineError::Eof) => Ok(PromptLine::End),
            Err(error) => Err(unusable(error)),
        }
    }
}

fn unusable(error: ReadlineError) -> CommandFailure {
    CommandFailure::other("the terminal cannot be used")
        .because(&error)
        .next("Pipe the lines in instead, or use payman ask.")
}

/// Reads lines of standard input in a thread of its own.
pub(super) struct LineReader {
    lines: mpsc::Receiver<std::io::Result<String>>,
    is_terminal: bool,
}

impl LineReader {
    fn start() -> Self {
        let (sender, lines) = mpsc::channel(MAX_LINES_AHEAD);
        // Not a task: a blocked read must not keep the runtime from ending.
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            loop {
                let mut bytes = Vec::new();
                let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
                let line = match read {
                    Ok(0) => return,
                    Ok(_) => String::from_utf8(bytes).map_err(std::io::Error::other),
                    Err(error) => Err(error),
                };
                let is_end = line.is_err();
                if sender.blocking_send(line).is_err() || is_end {
                    return;
                }
            }
        });
        Self { lines, is_terminal: std::io::stdin().is_terminal() }
    }

    async fn read(&mut self, sign: &str) -> Result<PromptLine, CommandFailure> {
        if self.is_terminal {
            print_text(sign).map_err(CommandFailure::output)?;
        }
        match self.lines.recv().await {
            Some(Ok(line)) => Ok(PromptLine::Text(line)),
            Some(Err(error)) => {
                Err(CommandFailure::usage("standard input could not be read").because(&error))
            }
            None => Ok(PromptLine::End),
        }
    }

    fn take_ahead(&mut self) -> Vec<String> {
        let mut ahead = Vec::new();
        // An error stays for the next read: the channel is closed behind it.
        while let Ok(Ok(line)) = self.lines.try_recv() {
            ahead.push(line);
        }
        ahead
    }
}
