//! Tests that a page can rebuild the reply from the events, as the documentation describes.

use serde_json::{Value, json};

use super::support::{Axum, body_text, client, events_in, post_text, service};
use crate::common::raw::{RawRequest, Step, events_head, not_found, serve};

/// The state of a page that merges events like the script in the documentation.
#[derive(Default)]
struct Page {
    artifacts: Vec<(i64, String)>,
    message: String,
}

impl Page {
    fn apply(&mut self, name: &str, data: &Value) {
        let text = || data["text"].as_str().unwrap_or_default().to_owned();
        match name {
            "artifact" => {
                let index = data["index"].as_i64().unwrap();
                match self.artifacts.iter_mut().find(|(known, _)| *known == index) {
                    Some((_, known)) if data["append"] == true => known.push_str(&text()),
                    Some((_, known)) => *known = text(),
                    None => self.artifacts.push((index, text())),
                }
            }
            "task" => {
                let artifacts = data["artifacts"].as_array().into_iter().flatten();
                self.artifacts = artifacts
                    .map(|artifact| {
                        let text = artifact["text"].as_str().unwrap().to_owned();
                        (artifact["index"].as_i64().unwrap(), text)
                    })
                    .collect();
                self.message = data["message"].as_str().unwrap_or_default().to_owned();
            }
            "status" => self.message = text(),
            _ => {}
        }
    }

    fn text(&self) -> String {
        let texts = self.artifacts.iter().map(|(_, text)| text.as_str());
        let text = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
        if text.is_empty() { self.message.clone() } else { text }
    }
}

#[tokio::test]
async fn a_page_can_append_to_the_artifacts_of_a_task() {
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    // Each case is the artifacts of a task; a chunk is appended to the last one.
    for artifacts in [
        json!([{"parts": text("The balance is $")}]),
        json!([{"parts": text("First.")}, {"parts": text("The balance is $")}]),
        json!([{"index": 3, "parts": text("First.")}, {"index": 9, "parts": text("It is $")}]),
        json!([]),
    ] {
        let last = artifacts.as_array().unwrap().last().cloned().unwrap_or_default();
        let position = artifacts.as_array().unwrap().len().saturating_sub(1);
        let index = last["index"].as_i64().unwrap_or(position as i64);
        let (initial, appended) = (artifacts.clone(), text("50."));
        let upstream = serve(move |request: RawRequest| {
            if !request.path.ends_with("sendSubscribe") {
                return not_found();
            }
            let id = request.task_id();
            let task = json!({"id": id, "artifacts": initial,
                "status": {"state": "WORKING", "message": "Busy"}});
            let chunk = json!({"id": id,
                "artifact": {"index": index, "append": true, "parts": appended}});
            let end = json!({"id": id, "status": {"state": "COMPLETED"}, "final": true});
            let events = [task, chunk, end].map(|result| {
                format!("data: {}\n\n", json!({"jsonrpc": "2.0", "id": "r", "result": result}))
            });
            vec![events_head(), Step::Send(events.concat().into_bytes())]
        })
        .await;
        let client = client(&upstream.url);
        let reply = client.ask_stream("How much?").await.unwrap().into_reply().await.unwrap();
        let text =
            body_text(post_text(&service(Axum, client).await, "/stream", "How much?").await).await;
        let mut page = Page::default();
        events_in(&text).iter().for_each(|(name, data)| page.apply(name, data));
        assert_eq!(page.text(), reply.text(), "{artifacts}: {text}");
    }
}
