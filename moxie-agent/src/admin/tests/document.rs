//! The OpenAPI document: its copy in the repository, and what it says of every operation.

use serde_json::Value;

use super::agent;
use crate::admin::openapi;

#[test]
fn the_file_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let file = std::fs::read_to_string(path).unwrap_or_default();
    let code = openapi().to_pretty_json().unwrap();
    assert!(
        file.trim_end() == code.trim_end(),
        "docs/openapi.json is not what the code says: `cargo xtask openapi` writes it"
    );
}

#[test]
fn every_operation_says_what_a_client_maker_needs() {
    let document = serde_json::to_value(openapi()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path} has no summary");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let bare = ["204", "304"].contains(&status.as_str());
                assert_eq!(response.get("content").is_none(), bare, "{method} {path} {status}");
            }
        }
    }
}

/// Every `$ref` of the document, with the place it is at.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_document_is_served() {
    let served = agent().await.ask("GET", "/api/openapi.json", None).await.json();
    assert_eq!(served, serde_json::to_value(openapi()).unwrap());
}
