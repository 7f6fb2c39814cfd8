//! Signup and login, single and in batches.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answers::internal;
use super::super::core::App;
use super::super::password::Urgency;
use super::Rest;
use super::answer::{ApiError, Body, change};
use crate::chat::{Code, Refusal, UserId, rules};
use crate::config;
use crate::index::User;
use crate::link::frame::{Change, NewUser, Outcome};

/// Users in one step of a batch call: small enough that steps of several calls take turns.
const STEP: usize = 1_000;

type Answer = Result<(StatusCode, Json<Value>), ApiError>;

/// What signup and login carry; types are checked by hand so that the refusal can name the field.
#[derive(Deserialize)]
pub struct Credentials {
    #[serde(default)]
    username: Value,
    #[serde(default)]
    password: Value,
}

/// A batch of them.
#[derive(Deserialize)]
pub struct Batch {
    users: Vec<Credentials>,
}

impl Credentials {
    fn take(self) -> Result<(String, String), Refusal> {
        match (self.username, self.password) {
            (Value::String(username), Value::String(password)) => {
                rules::username(&username)?;
                rules::password(&password)?;
                Ok((username, password))
            }
            _ => Err(Refusal::new(Code::InvalidRequest, "username and password are required, as strings")),
        }
    }

    /// The name as it came, for naming it in an error.
    fn shown(&self) -> Value {
        self.username.clone()
    }
}

/// `POST /api/auth/signup`
pub async fn signup(State(rest): State<Rest>, Body(asked): Body<Credentials>) -> Answer {
    let (username, password) = asked.take()?;
    let taken = || Refusal::new(Code::UsernameTaken, "Username already exists");
    if user_by_name(&rest.app, &username)?.is_some() {
        return Err(taken().into());
    }
    let hash = rest.passwords.hash(vec![password], Urgency::Single).await?.pop().flatten();
    let user = NewUser { username: username.clone(), password: hash.ok_or_else(internal)? };
    match create(&rest.app, vec![user]).await?.pop() {
        Some(Ok(_)) => {
            let body = json!({"message": "User created successfully", "username": username});
            Ok((StatusCode::CREATED, Json(body)))
        }
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(internal().into()),
    }
}

/// `POST /api/auth/signup-batch`
pub async fn signup_batch(State(rest): State<Rest>, Body(batch): Body<Batch>) -> Answer {
    check_size(batch.users.len())?;
    let (mut created, mut errors) = (Vec::new(), Vec::new());
    let mut users = batch.users.into_iter().peekable();
    while users.peek().is_some() {
        let step: Vec<Credentials> = users.by_ref().take(STEP).collect();
        signup_step(&rest, step, &mut created, &mut errors).await?;
    }
    let message = format!("{} users created", created.len());
    Ok((StatusCode::CREATED, Json(json!({"message": message, "created": created, "errors": errors}))))
}

async fn signup_step(
    rest: &Rest,
    step: Vec<Credentials>,
    created: &mut Vec<Value>,
    errors: &mut Vec<Value>,
) -> Result<(), ApiError> {
    let (mut names, mut passwords) = (Vec::new(), Vec::new());
    for asked in step {
        let shown = asked.shown();
        match asked.take() {
            Ok((username, password)) => {
                names.push(username);
                passwords.push(password);
            }
            Err(refusal) => errors.push(json!({"username": shown, "error": refusal.message})),
        }
    }
    let mut users = Vec::with_capacity(names.len());
    let mut names = names.into_iter();
    for chunk in passwords.chunks(rest.passwords.chunk) {
        for hash in rest.passwords.hash(chunk.to_vec(), Urgency::Bulk).await? {
            let username = names.next().ok_or_else(internal)?;
            users.push(NewUser { username, password: hash.ok_or_else(internal)? });
        }
    }
    let names: Vec<String> = users.iter().map(|user| user.username.clone()).collect();
    for (username, outcome) in names.into_iter().zip(create(&rest.app, users).await?) {
        match outcome {
            Ok(id) => created.push(json!({"username": username, "id": id})),
            Err(refusal) => errors.push(json!({"username": username, "error": refusal.message})),
        }
    }
    Ok(())
}

/// `POST /api/auth/login`
pub async fn login(State(rest): State<Rest>, Body(asked): Body<Credentials>) -> Answer {
    let (username, password) = asked.take()?;
    let user = user_by_name(&rest.app, &username)?;
    let stored = user.as_ref().map(|user| user.password.clone());
    let right = rest.passwords.verify(vec![(password, stored)], Urgency::Single).await?;
    match user.filter(|_| right == [true]) {
        Some(user) => {
            let token = token(&rest.app, user.number, &user.username)?;
            let body = json!({"token": token, "username": user.username, "userId": user.number});
            Ok((StatusCode::OK, Json(body)))
        }
        None => Err(wrong().into()),
    }
}

/// `POST /api/auth/login-batch`
pub async fn login_batch(State(rest): State<Rest>, Body(batch): Body<Batch>) -> Answer {
    check_size(batch.users.len())?;
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    let mut users = batch.users.into_iter().peekable();
    while users.peek().is_some() {
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        for credentials in users.by_ref().take(rest.passwords.chunk) {
            let shown = credentials.shown();
            match credentials.take() {
                Ok((username, password)) => {
                    let user = user_by_name(&rest.app, &username)?;
                    asked.push((password, user.as_ref().map(|user| user.password.clone())));
                    found.push((username, user));
                }
                Err(refusal) => errors.push(json!({"username": shown, "error": refusal.message})),
            }
        }
        let right = rest.passwords.verify(asked, Urgency::Bulk).await?;
        for ((username, user), right) in found.into_iter().zip(right) {
            match user.filter(|_| right) {
                Some(user) => {
                    let token = token(&rest.app, user.number, &user.username)?;
                    results.push(json!({"username": user.username, "token": token, "userId": user.number}));
                }
                None => errors.push(json!({"username": username, "error": wrong().message})),
            }
        }
    }
    let message = format!("{} users logged in", results.len());
    Ok((StatusCode::OK, Json(json!({"message": message, "results": results, "errors": errors}))))
}

fn wrong() -> Refusal {
    Refusal::new(Code::InvalidCredentials, "Invalid username or password")
}

fn check_size(entries: usize) -> Result<(), Refusal> {
    if entries > config::BATCH_ENTRIES {
        let message = format!("a call carries at most {} entries", config::BATCH_ENTRIES);
        return Err(Refusal::new(Code::InvalidRequest, message));
    }
    Ok(())
}

fn user_by_name(app: &App, username: &str) -> Result<Option<User>, ApiError> {
    Ok(app.core.lock().index.user_by_name(username)?)
}

fn token(app: &App, number: UserId, username: &str) -> Result<String, ApiError> {
    app.tokens.issue(number, username).map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        internal().into()
    })
}

async fn create(app: &App, users: Vec<NewUser>) -> Result<Vec<Result<UserId, Refusal>>, ApiError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    match change(app, Change::CreateUsers(users)).await? {
        Outcome::Users(outcomes) => Ok(outcomes),
        other => Err(unexpected(&other)),
    }
}

/// The storage writer answered something that does not fit the question: a mistake of ours.
pub fn unexpected(outcome: &Outcome) -> ApiError {
    tracing::error!(?outcome, "an answer that does not fit its question");
    internal().into()
}
