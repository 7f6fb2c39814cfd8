//! What a challenge to be made must look like. Every field is looked at, and each that is wrong has a
//! sentence of its own.

use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::envelope;
use super::fields::Field;
use crate::challenge::{Distance, PARTICIPANTS_MAX};
use crate::chat::{Refusal, rules};
use crate::wire::local_time::Zone;

/// A challenge to make; types are checked by hand so that each mistake can name its field.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChallengeBody {
    #[schema(value_type = String, max_length = 200)]
    title: Field,
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Field,
    #[schema(value_type = u32, minimum = 1, maximum = 100_000)]
    max_participants: Field,
    /// In the future; without an offset it is a time of the server's zone.
    #[schema(value_type = String, example = "2026-01-01T09:00:00")]
    start_at: Field,
    /// `M100`, `M500`, `ONE` to `TEN`, `FIFTEEN` or `HALF`.
    #[schema(value_type = String, example = "M100")]
    distance: Field,
    /// Whoever joins has to know the password; `false` if not given.
    #[schema(value_type = Option<bool>)]
    is_private: Field,
    /// Of a private challenge.
    #[schema(value_type = Option<String>, max_length = 1024)]
    password: Field,
    /// Anybody may watch; `false` if not given.
    #[schema(value_type = Option<bool>)]
    is_broadcast: Field,
}

/// The same, once it is known to be good.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it is called.
    pub title: String,
    /// What is said about it.
    pub description: String,
    /// How many may take part.
    pub max_participants: u32,
    /// When it starts, as Unix time in milliseconds.
    pub start_ms: i64,
    /// How far.
    pub distance: Distance,
    /// `Some`: it is private.
    pub password: Option<String>,
    /// Anybody may watch.
    pub broadcast: bool,
}

/// What is wrong with a body, field by field.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes(Map<String, Value>);

impl Mistakes {
    /// The value, or a note of what its field must be.
    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|text| self.0.insert(field.to_owned(), Value::String(text))).ok()
    }
}

impl IntoResponse for Mistakes {
    fn into_response(self) -> Response {
        let texts: Vec<&str> = self.0.values().filter_map(Value::as_str).collect();
        let message = texts.join("; ");
        envelope::invalid(&message, self.0)
    }
}

impl ChallengeBody {
    /// Looks at every field.
    ///
    /// # Errors
    /// What is wrong with which.
    pub fn check(self, zone: &Zone, now_ms: i64) -> Result<Wanted, Mistakes> {
        let mut mistakes = Mistakes::default();
        let title = mistakes.take("title", title(self.title));
        let description = mistakes.take("description", description(self.description));
        let max_participants = mistakes.take("maxParticipants", participants(&self.max_participants));
        let start_ms = mistakes.take("startAt", start(&self.start_at, zone, now_ms));
        let distance = mistakes.take("distance", distance(&self.distance));
        let is_private = mistakes.take("isPrivate", flag("isPrivate", &self.is_private));
        let password = mistakes.take("password", password(self.password, is_private == Some(true)));
        let broadcast = mistakes.take("isBroadcast", flag("isBroadcast", &self.is_broadcast));
        let wanted = || {
            Some(Wanted {
                title: title?,
                description: description?,
                max_participants: max_participants?,
                start_ms: start_ms?,
                distance: distance?,
                password: password?,
                broadcast: broadcast?,
            })
        };
        let wanted = wanted().filter(|_| is_private.is_some());
        wanted.ok_or(mistakes)
    }
}

fn title(field: Field) -> Result<String, String> {
    let Field::Text(title) = field else {
        return Err("title is required, as a string".to_owned());
    };
    let renamed = |refusal: Refusal| refusal.message;
    rules::challenge_title(&title).map_err(renamed)?;
    Ok(title)
}

fn description(field: Field) -> Result<String, String> {
    match field {
        Field::Null => Ok(String::new()),
        Field::Text(text) if text.chars().count() <= rules::DESCRIPTION_CHARS => Ok(text),
        Field::Text(_) => Err(format!("description must not exceed {} characters", rules::DESCRIPTION_CHARS)),
        _ => Err("description must be a string".to_owned()),
    }
}

fn participants(field: &Field) -> Result<u32, String> {
    let number = match field {
        Field::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        _ => None,
    };
    let wrong = || format!("maxParticipants must be a whole number from 1 to {PARTICIPANTS_MAX}");
    number.filter(|number| (1..=PARTICIPANTS_MAX).contains(number)).ok_or_else(wrong)
}

fn start(field: &Field, zone: &Zone, now_ms: i64) -> Result<i64, String> {
    let read = match field {
        Field::Text(text) => zone.read(text),
        _ => None,
    };
    match read {
        Some(start_ms) if start_ms > now_ms => Ok(start_ms),
        Some(_) => Err("startAt must be in the future".to_owned()),
        None => Err("startAt must be a time like 2026-01-01T09:00:00".to_owned()),
    }
}

fn distance(field: &Field) -> Result<Distance, String> {
    let found = match field {
        Field::Text(code) => Distance::of(code),
        _ => None,
    };
    found.ok_or_else(|| {
        let codes: Vec<&str> = Distance::all().map(Distance::code).collect();
        format!("distance must be one of {}", codes.join(", "))
    })
}

fn flag(name: &str, field: &Field) -> Result<bool, String> {
    match field {
        Field::Null => Ok(false),
        Field::Flag(flag) => Ok(*flag),
        _ => Err(format!("{name} must be true or false")),
    }
}

/// Of a challenge that is not private nobody needs one.
fn password(field: Field, is_private: bool) -> Result<Option<String>, String> {
    match field {
        Field::Text(password) if is_private && !password.is_empty() => {
            rules::password(&password).map_err(|refusal| refusal.message)?;
            Ok(Some(password))
        }
        Field::Null | Field::Text(_) if !is_private => Ok(None),
        Field::Null | Field::Text(_) => Err("password is required for a private challenge".to_owned()),
        _ => Err("password must be a string".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NEW_YEAR_MS: i64 = 1_767_225_600_000;

    fn check(change: Value) -> Result<Wanted, Vec<(String, String)>> {
        let mut body = json!({"title": "새해 달리기", "description": "함께", "maxParticipants": 10,
            "startAt": "2026-01-01T09:00:00", "distance": "M100", "isPrivate": false, "password": null,
            "isBroadcast": true});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let body: ChallengeBody = serde_json::from_value(body).unwrap();
        let zone = Zone::named("Asia/Seoul").unwrap();
        body.check(&zone, NEW_YEAR_MS - 1).map_err(|Mistakes(mistakes)| {
            mistakes.into_iter().map(|(field, text)| (field, text.as_str().unwrap().to_owned())).collect()
        })
    }

    #[test]
    fn a_good_one_is_read() {
        let wanted = check(json!({})).unwrap();
        assert_eq!(
            (wanted.start_ms, wanted.distance, wanted.max_participants),
            (NEW_YEAR_MS, Distance::M100, 10)
        );
        assert_eq!((wanted.password, wanted.broadcast), (None, true));
        let wanted = check(json!({"isPrivate": true, "password": "p", "description": null})).unwrap();
        assert_eq!((wanted.password.as_deref(), wanted.description.as_str()), (Some("p"), ""));
        assert_eq!(check(json!({"password": "p"})).unwrap().password, None);
        let body: ChallengeBody = serde_json::from_str("{}").unwrap();
        let missing = body.check(&Zone::named("UTC").unwrap(), 0).unwrap_err();
        assert_eq!(missing.0.keys().collect::<Vec<_>>(), ["distance", "maxParticipants", "startAt", "title"]);
    }

    #[test]
    fn each_wrong_field_is_named_with_what_it_must_be() {
        for (field, value, says) in [
            ("title", json!(1), "string"),
            ("title", json!(""), "title"),
            ("title", json!("x".repeat(201)), "200 characters"),
            ("description", json!([]), "string"),
            ("description", json!("가".repeat(1_001)), "1000 characters"),
            ("maxParticipants", json!(0), "from 1 to 100000"),
            ("maxParticipants", json!(1.5), "whole"),
            ("maxParticipants", json!("10"), "whole"),
            ("maxParticipants", json!(100_001), "from 1"),
            ("startAt", json!("tomorrow"), "a time like"),
            ("startAt", json!(NEW_YEAR_MS), "a time like"),
            ("startAt", json!("2025-12-31T23:59:59"), "in the future"),
            ("distance", json!("MARATHON"), "M100, M500, ONE"),
            ("distance", json!(1), "one of"),
            ("isPrivate", json!("yes"), "true or false"),
            ("isPrivate", json!(true), ""),
            ("password", json!(5), "string"),
            ("isBroadcast", json!(1), "true or false"),
        ] {
            let mistakes = check(json!({field: value})).unwrap_err();
            let named =
                if (field, value.as_bool()) == ("isPrivate", Some(true)) { "password" } else { field };
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert_eq!(mistakes[0].0, named);
            assert!(mistakes[0].1.contains(says) && mistakes[0].1.contains(named), "{mistakes:?}");
        }
        assert_eq!(check(json!({"title": null, "distance": null, "isPrivate": 1})).unwrap_err().len(), 3);
    }
}
