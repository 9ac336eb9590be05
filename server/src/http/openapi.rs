//! The description of the API, OpenAPI 3.1, made of the [`calls`](super::calls) and the [`schemas`] of what is JSON
//! in them. SPEC is what binds; this says the same to programs that read such documents.

mod schemas;
#[cfg(test)]
mod tests;

use super::{
    Json,
    calls::{Asks, Call, Content, calls},
};
use backstop_protocol::{
    api::{AUTH_SCHEME, MAC_HEADER, OCTETS},
    problem::PROBLEM_JSON,
};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| describe(&calls()));

pub(super) async fn document() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

fn describe(calls: &[Call]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for call in calls {
        let path = paths.entry(call.path.clone()).or_insert_with(|| json!({}));
        if let Value::Object(methods) = path {
            methods.insert(call.method.to_owned(), operation(call));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Backstop",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keeps encrypted backups of Core Lightning nodes, and cannot read them. SPEC.md is what binds. Every answer \
                of a session carries a MAC in a header, without which a client takes it for none.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": format!("`{AUTH_SCHEME} <token> <counter> <MAC of the request in hex>` (SPEC 4.4)"),
                },
            },
            "responses": {
                "Problem": {
                    "description": "A refusal (SPEC 7.3).",
                    "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
        },
    })
}

fn operation(call: &Call) -> Value {
    let mut operation = json!({
        "operationId": call.name,
        "summary": call.about,
        "parameters": parameters(call),
        "responses": {
            "200": answer(call),
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    if let Value::Object(members) = &mut operation {
        if let Some(body) = body(call) {
            members.insert("requestBody".to_owned(), body);
        }
        let scope = match call.asks {
            Asks::Nothing => return operation,
            Asks::Read => "Needs a session.",
            Asks::Append => "Needs a session that may append.",
        };
        members.insert("description".to_owned(), scope.into());
        members.insert("security".to_owned(), json!([{ "session": [] }]));
    }
    operation
}

/// What stands in the path, by the template's own names, and in the query.
fn parameters(call: &Call) -> Vec<Value> {
    let named = call.path.split('{').skip(1);
    let named = named.filter_map(|rest| rest.split('}').next());
    let path = named.map(|name| {
        let schema = match name {
            "snapshot" => schemas::hex(16),
            _ => schemas::hex(32),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let query = call.query.iter().map(|field| {
        json!({
            "name": field.name,
            "in": "query",
            "required": field.required,
            "description": field.about,
            "schema": schemas::number(),
        })
    });
    path.chain(query).collect()
}

fn body(call: &Call) -> Option<Value> {
    match call.body {
        Content::Nothing => None,
        content => Some(json!({ "required": true, "content": described(content) })),
    }
}

fn answer(call: &Call) -> Value {
    let mut answer = json!({ "description": "Done, and durable.", "content": described(call.answer) });
    if let (Value::Object(members), true) = (&mut answer, call.asks != Asks::Nothing) {
        let mac = json!({
            MAC_HEADER: { "description": "The answer's MAC (SPEC 4.4).", "schema": schemas::hex(32) },
        });
        members.insert("headers".to_owned(), mac);
    }
    answer
}

fn described(content: Content) -> Value {
    match content {
        Content::Nothing => json!({}),
        Content::Json(name) => {
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } })
        }
        // Bytes have no schema of JSON's in OpenAPI 3.1.
        Content::Octets(about, most) => {
            json!({ OCTETS: { "schema": { "description": format!("{about} At most {most} bytes.") } } })
        }
    }
}
