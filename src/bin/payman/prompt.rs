//! The line that a person types, with editing and history.

use std::io::IsTerminal;
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::folder;
use crate::status::Failure;

const HISTORY: usize = 1000;

/// What came of asking for a line.
pub(crate) enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the input.
    End,
}

/// Reads lines in a thread, so that the rest of the program goes on.
pub(crate) struct Prompt {
    /// Away while a line is read.
    editor: Option<DefaultEditor>,
    history: Option<PathBuf>,
}

impl Prompt {
    pub(crate) fn new(history: Option<PathBuf>) -> Result<Self, Failure> {
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map(|config| config.history_ignore_space(true).auto_add_history(true).build())
            .map_err(unusable)?;
        let mut editor = DefaultEditor::with_config(config).map_err(unusable)?;
        // What is piped in is not typed, and not to be remembered.
        let history =
            history.or_else(|| folder::file("history")).filter(|_| std::io::stdin().is_terminal());
        if let Some(path) = &history {
            let _ = folder::make_for(path);
            let _ = editor.load_history(path);
        }
        Ok(Self { editor: Some(editor), history })
    }

    pub(crate) async fn read(&mut self, sign: &'static str) -> Result<Line, Failure> {
        let Some(mut editor) = self.editor.take() else {
            return Ok(Line::End);
        };
        let history = self.history.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let line = editor.readline(sign);
            if let (Ok(_), Some(path)) = (&line, &history) {
                // A history that cannot be kept is no reason to end a conversation.
                let _ = editor.append_history(path);
            }
            (editor, line)
        });
        let (editor, line) =
            reading.await.map_err(|error| Failure::other("the prompt failed").because(&error))?;
        self.editor = Some(editor);
        match line {
            Ok(line) => Ok(Line::Text(line)),
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(unusable(error)),
        }
    }
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::other("the terminal cannot be used").because(&error)
}
