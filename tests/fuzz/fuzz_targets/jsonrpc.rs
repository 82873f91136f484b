//! Parses arbitrary bytes as a JSON-RPC response. Each reply has to be an event as well.
#![no_main]

use libfuzzer_sys::fuzz_target;
use payman_sdk::decode;

fuzz_target!(|body: &[u8]| {
    let event = decode::event(body);
    if decode::response(body).is_ok() {
        assert!(event.is_ok(), "a reply that is not an event");
    }
    let Ok(event) = event else {
        return;
    };
    let written = serde_json::to_vec(&event).expect("an event can be written");
    if event.task_id().is_some() {
        let again = decode::event(&written).expect("what was written can be read");
        assert_eq!(again.task_id(), event.task_id());
        assert_eq!(again.state(), event.state());
    }
});
