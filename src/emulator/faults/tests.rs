use super::*;

#[test]
fn a_request_takes_the_first_fault_for_its_operation() {
    let mut faults = FaultQueue::default();
    faults.add([
        Fault::status(503).on(Operation::Send).times(2),
        Fault::close().on(Operation::Get).skip(1),
        Fault::stall().times(0),
        Fault::cut(5),
    ]);
    let mut take = |operation| faults.take(operation).map(|fault| fault.action);
    assert!(matches!(take(Operation::Send), Some(FaultAction::Status { .. })));
    assert!(matches!(take(Operation::Get), Some(FaultAction::TruncateBody { .. })));
    assert_eq!(take(Operation::Get), Some(FaultAction::Close));
    assert!(matches!(take(Operation::Send), Some(FaultAction::Status { .. })));
    assert_eq!(take(Operation::Send), None);
    assert_eq!(faults.len(), 0);
}

#[test]
fn specs_are_validated() {
    let parse = |json: &str| -> Result<Fault, String> {
        serde_json::from_str::<FaultSpec>(json).map_err(|error| error.to_string())?.try_into()
    };
    assert_eq!(
        parse(r#"{"on":"send","close":true,"when":"after"}"#),
        Ok(Fault::close().on(Operation::Send).after_acting())
    );
    assert_eq!(
        parse(r#"{"status":429,"retryAfter":2,"times":3,"body":{"a":1}}"#),
        Ok(Fault::status(429).retry_after("2").times(3).body("{\"a\":1}", "application/json"))
    );
    for wrong in [
        r#"{}"#,
        r#"{"close":true,"stall":true}"#,
        r#"{"on":"nothing","close":true}"#,
        r#"{"cut":1}"#,
        r#"{"status":7}"#,
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
