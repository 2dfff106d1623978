//! The JSON that every command prints with `--json`.

use serde_json::{Map, Value};

/// Version of the keys. A key is never renamed or dropped without a new number; new keys may come.
pub const SCHEMA: u32 = 1;

/// One object: `schema` and `command` beside the command's own keys.
///
/// `fields` is an object, as `serde_json::json!({...})` makes it; anything else becomes `result`.
pub fn document(command: &str, fields: Value) -> Value {
    let mut all = Map::new();
    all.insert("schema".into(), SCHEMA.into());
    all.insert("command".into(), command.into());
    match fields {
        Value::Object(fields) => all.extend(fields),
        other => {
            all.insert("result".into(), other);
        }
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_document_names_its_schema_and_command() {
        let d = document("eval", json!({"accuracy": 0.5, "n": 10}));
        assert_eq!(
            d,
            json!({"schema": 1, "command": "eval", "accuracy": 0.5, "n": 10})
        );
        assert_eq!(
            document("x", json!([1])),
            json!({"schema": 1, "command": "x", "result": [1]})
        );
    }
}
