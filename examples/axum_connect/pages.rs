//! The pages.

use axum::response::Html;
use payman_sdk::{Error, Reply};

pub fn stranger() -> Html<String> {
    page("<p>Your Payman account is not connected.</p>\n<p><a href=\"/connect\">Connect it</a></p>")
}

pub fn not_connected(error: &Error) -> Html<String> {
    page(&format!(
        "<p>{}.</p>\n<p><a href=\"/connect\">Try again</a></p>",
        escape(&error.to_string())
    ))
}

pub fn connected(reply: Option<&Reply>) -> Html<String> {
    let answer = match reply {
        Some(reply) => format!(
            "<pre>{}</pre>\n<p><small>{}</small></p>\n",
            escape(&reply.text()),
            reply.state()
        ),
        None => String::new(),
    };
    page(&format!(
        "{answer}<form method=\"post\" action=\"/ask\">\n\
         <input name=\"text\" size=\"60\" autofocus placeholder=\"How much money do I have in my wallet?\">\n\
         <button>Ask</button>\n</form>\n\
         <form method=\"post\" action=\"/disconnect\"><button>Disconnect my account</button></form>"
    ))
}

fn page(body: &str) -> Html<String> {
    Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>My service</title></head>\n\
         <body>\n<h1>My service</h1>\n{body}\n</body>\n</html>\n"
    ))
}

/// The answer is text: it is never markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
