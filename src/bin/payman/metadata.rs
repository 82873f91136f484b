//! Metadata from the command line: `key=value`, or a JSON object.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

/// One `--metadata` option: one pair, or the fields of an object.
#[derive(Clone, Debug)]
pub(crate) struct MetadataArg(Vec<(String, Value)>);

impl MetadataArg {
    pub(crate) fn pairs(args: &[Self]) -> impl Iterator<Item = (String, Value)> {
        args.iter().flat_map(|arg| arg.0.clone())
    }
}

/// Reads `key=value` or a JSON object. A value is JSON, or else text.
pub(crate) fn parse_metadata(text: &str) -> Result<MetadataArg, String> {
    if let Ok(Value::Object(fields)) = exact_json(text) {
        return Ok(MetadataArg(fields.into_iter().collect()));
    }
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            let value = exact_json(value).unwrap_or_else(|_| Value::from(value));
            Ok(MetadataArg(vec![(key.trim().to_owned(), value)]))
        }
        _ => Err("expected key=value, or a JSON object".to_owned()),
    }
}

/// Reads JSON without changing a number: one that would be written in another way becomes text.
///
/// Examples are `1.10`, `77950e8` and a long order number, which would arrive as other numbers.
fn exact_json(text: &str) -> Result<Value, serde_json::Error> {
    let is_nested = |c| text.trim_start().starts_with(c);
    if is_nested('{') {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
        let fields = fields.into_iter().map(|(key, raw)| Ok((key, exact_json(raw.get())?)));
        return Ok(Value::Object(fields.collect::<Result<_, serde_json::Error>>()?));
    }
    if is_nested('[') {
        let items: Vec<&RawValue> = serde_json::from_str(text)?;
        let items = items.into_iter().map(|raw| exact_json(raw.get()));
        return Ok(Value::Array(items.collect::<Result<_, _>>()?));
    }
    let value: Value = serde_json::from_str(text)?;
    let rewritten = value.to_string();
    Ok(if value.is_number() && rewritten != text { Value::from(text) } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_sent_as_written() {
        let read = |text: &str| parse_metadata(text).map(|arg| arg.0);
        for (text, value) in [
            ("a=1", json!(1)),
            ("a=-1.5", json!(-1.5)),
            ("a=1.10", json!("1.10")),
            ("a=1e3", json!("1e3")),
            ("a=-0", json!("-0")),
            ("a=007", json!("007")),
            ("a= 1", json!(" 1")),
            ("a=77950e8", json!("77950e8")),
            ("a=20240000000000000000123", json!("20240000000000000000123")),
            ("a=18446744073709551615", json!(u64::MAX)),
            ("a=x=y", json!("x=y")),
            ("a=", json!("")),
            ("a=true", json!(true)),
            (r#"a={"b":[true, 1.10, {"c": 2}]}"#, json!({"b": [true, "1.10", {"c": 2}]})),
        ] {
            assert_eq!(read(text).unwrap(), [("a".to_owned(), value)], "{text}");
        }
        assert_eq!(
            read(r#"{"a":12345678901234567890123,"b":"c"}"#).unwrap(),
            [("a".to_owned(), json!("12345678901234567890123")), ("b".to_owned(), json!("c"))]
        );
        assert!(read("=1").is_err() && read("a").is_err());
    }
}
