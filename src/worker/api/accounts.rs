//! Signup and login, single and in batches.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::answers::internal;
use super::super::core::App;
use super::super::password::{self, Urgency, Verdict};
use super::Rest;
use super::answer::{ApiError, Problem, change};
use super::body::Body;
use super::fields::{Entry, Field, entries};
use super::sources::Sources;
use super::steps::Steps;
use crate::chat::{Code, Refusal, UserId, name, rules};
use crate::config;
use crate::index::User;
use crate::link::frame::{Change, NewPassword, NewUser, Outcome};

/// Users in one step of a batch call: small enough that steps of several calls take turns.
const STEP: usize = 1_000;

type Answer<T> = Result<(StatusCode, Json<T>), ApiError>;

/// What signup and login carry; types are checked by hand so that the refusal can name the field.
#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    #[serde(default)]
    #[schema(value_type = String, max_length = 100)]
    username: Field,
    #[serde(default)]
    #[schema(value_type = String, max_length = 1024)]
    password: Field,
    /// How others see them in live challenges; the name if there is none. Only signup looks at it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 100)]
    nickname: Field,
    /// The address of a picture. Only signup looks at it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2048)]
    profile_image: Field,
}

/// Whom to create, but for the hash of the password.
struct Newcomer {
    username: String,
    nickname: Option<String>,
    profile_image: Option<String>,
}

impl Newcomer {
    fn with(self, password: String) -> NewUser {
        let Newcomer { username, nickname, profile_image } = self;
        NewUser { username, password, nickname, profile_image }
    }
}

/// A batch of them, at most 100,000.
#[derive(Deserialize, ToSchema)]
pub struct UserBatch {
    #[serde(deserialize_with = "entries")]
    #[schema(value_type = Vec<Credentials>)]
    users: Vec<Entry<Credentials>>,
}

/// Answer of `signup`.
#[derive(Serialize, ToSchema)]
pub struct SignedUp {
    message: String,
    username: String,
}

/// A user that a batch created.
#[derive(Serialize, ToSchema)]
pub struct CreatedUser {
    username: String,
    /// The user's number.
    id: UserId,
}

/// An entry of a batch that was refused.
#[derive(Serialize, ToSchema)]
pub struct RefusedUser {
    /// The name as it came; `null` for an array or an object.
    #[schema(value_type = String)]
    username: Field,
    error: String,
}

/// Answer of `signup-batch`.
#[derive(Serialize, ToSchema)]
pub struct SignupBatchAnswer {
    message: String,
    created: Vec<CreatedUser>,
    errors: Vec<RefusedUser>,
}

/// A user that logged in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedIn {
    token: String,
    username: String,
    user_id: UserId,
}

/// Answer of `login-batch`.
#[derive(Serialize, ToSchema)]
pub struct LoginBatchAnswer {
    message: String,
    results: Vec<LoggedIn>,
    errors: Vec<RefusedUser>,
}

impl Credentials {
    fn take(self) -> Result<(String, String), Refusal> {
        match (self.username, self.password) {
            (Field::Text(username), Field::Text(password)) => {
                rules::username(&username)?;
                rules::password(&password)?;
                Ok((username, password))
            }
            _ => Err(Refusal::new(Code::InvalidRequest, "username and password are required, as strings")),
        }
    }

    /// Whom signup is to create, and the password.
    fn newcomer(mut self) -> Result<(Newcomer, String), Refusal> {
        let looks = (std::mem::take(&mut self.nickname), std::mem::take(&mut self.profile_image));
        let (username, password) = self.take()?;
        let username = name::composed(&username).into_owned();
        let (nickname, profile_image) = (nickname(looks.0)?, profile_image(looks.1)?);
        Ok((Newcomer { username, nickname, profile_image }, password))
    }

    /// The name as it came, for naming it in an error.
    fn shown(&self) -> Field {
        self.username.clone()
    }
}

/// A nickname, by the rule of names; empty: none.
pub fn nickname(field: Field) -> Result<Option<String>, Refusal> {
    let nickname = optional("nickname", field)?;
    nickname.as_deref().map_or(Ok(()), rules::nickname)?;
    Ok(nickname)
}

/// The address of a picture; empty: none.
pub fn profile_image(field: Field) -> Result<Option<String>, Refusal> {
    let profile_image = optional("profileImage", field)?;
    profile_image.as_deref().map_or(Ok(()), rules::profile_image)?;
    Ok(profile_image)
}

/// A text that may be missing or empty.
fn optional(name: &str, field: Field) -> Result<Option<String>, Refusal> {
    match field {
        Field::Null => Ok(None),
        Field::Text(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        _ => Err(Refusal::new(Code::InvalidRequest, format!("{name} must be a string"))),
    }
}

/// Creates one user.
#[utoipa::path(post, path = "/api/auth/signup", tag = "accounts", request_body = Credentials,
    responses((status = 201, body = SignedUp), (status = 400, body = Problem), (status = 409, body = Problem)))]
pub async fn signup(State(rest): State<Rest>, Body(asked, _memory): Body<Credentials>) -> Answer<SignedUp> {
    let (newcomer, password) = asked.newcomer()?;
    let username = newcomer.username.clone();
    let taken = || Refusal::new(Code::UsernameTaken, "Username already exists");
    if user_by_name(&rest.app, &username)?.is_some() {
        return Err(taken().into());
    }
    let hash = rest.passwords.hash(vec![password], Urgency::Single).await?.pop().flatten();
    match create(&rest.app, vec![newcomer.with(hash.ok_or_else(internal)?)]).await?.pop() {
        Some(Ok(_)) => {
            let message = "User created successfully".to_owned();
            Ok((StatusCode::CREATED, Json(SignedUp { message, username })))
        }
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(internal().into()),
    }
}

/// Creates many users; one that is refused does not hinder the next, and what was created stays.
#[utoipa::path(post, path = "/api/auth/signup-batch", tag = "accounts", request_body = UserBatch,
    responses((status = 201, body = SignupBatchAnswer), (status = 400, body = Problem)))]
pub async fn signup_batch(
    State(rest): State<Rest>,
    Body(batch, _memory): Body<UserBatch>,
) -> Answer<SignupBatchAnswer> {
    check_size(batch.users.len())?;
    let (mut created, mut errors, mut steps) = (Vec::new(), Vec::new(), Steps::default());
    let mut users = batch.users.into_iter().peekable();
    while users.peek().is_some() {
        let asked: Vec<Credentials> = users.by_ref().take(STEP).map(|Entry(user)| user).collect();
        signup_step(&rest, asked, &mut steps, &mut created, &mut errors).await;
    }
    steps.outcome()?;
    let message = format!("{} users created", created.len());
    Ok((StatusCode::CREATED, Json(SignupBatchAnswer { message, created, errors })))
}

async fn signup_step(
    rest: &Rest,
    asked: Vec<Credentials>,
    steps: &mut Steps,
    created: &mut Vec<CreatedUser>,
    errors: &mut Vec<RefusedUser>,
) {
    let (mut newcomers, mut names, mut passwords) = (Vec::new(), Vec::new(), Vec::new());
    for asked in asked {
        let shown = asked.shown();
        match asked.newcomer() {
            Ok((newcomer, password)) => {
                names.push((shown, newcomer.username.clone()));
                newcomers.push(newcomer);
                passwords.push(password);
            }
            Err(refusal) => errors.push(RefusedUser { username: shown, error: refusal.message }),
        }
    }
    if names.is_empty() {
        return;
    }
    let refused = |shown, message| RefusedUser { username: shown, error: message };
    match hash_and_create(rest, newcomers, &passwords).await {
        Ok(outcomes) => {
            steps.answered();
            for ((shown, username), outcome) in names.into_iter().zip(outcomes) {
                match outcome {
                    Ok(id) => created.push(CreatedUser { username, id }),
                    Err(refusal) => errors.push(refused(shown, refusal.message)),
                }
            }
        }
        Err(refusal) => {
            errors.extend(names.into_iter().map(|(shown, _)| refused(shown, refusal.message.clone())));
            steps.refused(refusal);
        }
    }
}

async fn hash_and_create(
    rest: &Rest,
    newcomers: Vec<Newcomer>,
    passwords: &[String],
) -> Result<Vec<Result<UserId, Refusal>>, Refusal> {
    let mut users = Vec::with_capacity(newcomers.len());
    let mut newcomers = newcomers.into_iter();
    for chunk in passwords.chunks(rest.passwords.chunk) {
        for hash in rest.passwords.hash(chunk.to_vec(), Urgency::Bulk).await? {
            let newcomer = newcomers.next().ok_or_else(internal)?;
            users.push(newcomer.with(hash.ok_or_else(internal)?));
        }
    }
    Ok(create(&rest.app, users).await?)
}

/// Gives a token for a name and a password.
#[utoipa::path(post, path = "/api/auth/login", tag = "accounts", request_body = Credentials,
    responses((status = 200, body = LoggedIn), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 429, body = Problem, description = "too many wrong passwords; `Retry-After` says how long")))]
pub async fn login(
    State(rest): State<Rest>,
    sources: Sources,
    Body(asked, _memory): Body<Credentials>,
) -> Answer<LoggedIn> {
    let (username, password) = asked.take()?;
    let attempt = sources.attempt(&username);
    // Before anything else, and the same whether there is such a user or not.
    rest.app.brake.check(&attempt).map_err(too_soon)?;
    let user = user_by_name(&rest.app, &username)?;
    let stored = user.as_ref().and_then(|user| user.password.clone());
    let asked = password::Asked { attempt, password, stored };
    let verdict = rest.passwords.verify(vec![asked], Urgency::Single).await?.pop();
    if let Some(Verdict::TooSoon(wait)) = verdict {
        return Err(too_soon(wait));
    }
    let mut outdated = Vec::new();
    let answer = match user.zip(verdict).and_then(|(user, verdict)| accept(user, verdict, &mut outdated)) {
        Some(user) => Ok((StatusCode::OK, Json(logged_in(&rest.app, user)?))),
        None => Err(wrong().into()),
    };
    replace(&rest.app, outdated);
    answer
}

/// Gives tokens for many names and passwords.
#[utoipa::path(post, path = "/api/auth/login-batch", tag = "accounts", request_body = UserBatch,
    responses((status = 200, body = LoginBatchAnswer), (status = 400, body = Problem)))]
pub async fn login_batch(
    State(rest): State<Rest>,
    sources: Sources,
    Body(batch, _memory): Body<UserBatch>,
) -> Answer<LoginBatchAnswer> {
    check_size(batch.users.len())?;
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    let mut users = batch.users.into_iter().peekable();
    while users.peek().is_some() {
        let (mut found, mut asked) = (Vec::new(), Vec::new());
        for Entry(credentials) in users.by_ref().take(rest.passwords.chunk) {
            let shown = credentials.shown();
            match credentials.take() {
                Ok((username, password)) => {
                    let user = user_by_name(&rest.app, &username)?;
                    let stored = user.as_ref().and_then(|user| user.password.clone());
                    let attempt = sources.attempt(&username);
                    asked.push(password::Asked { attempt, password, stored });
                    found.push((username, user));
                }
                Err(refusal) => errors.push(RefusedUser { username: shown, error: refusal.message }),
            }
        }
        let verdicts = rest.passwords.verify(asked, Urgency::Bulk).await?;
        let mut outdated = Vec::new();
        for ((username, user), verdict) in found.into_iter().zip(verdicts) {
            let refusal = match verdict {
                Verdict::TooSoon(_) => too_many_attempts(),
                _ => wrong(),
            };
            match user.and_then(|user| accept(user, verdict, &mut outdated)) {
                Some(user) => results.push(logged_in(&rest.app, user)?),
                None => errors.push(RefusedUser { username: Field::Text(username), error: refusal.message }),
            }
        }
        replace(&rest.app, outdated);
    }
    let message = format!("{} users logged in", results.len());
    Ok((StatusCode::OK, Json(LoginBatchAnswer { message, results, errors })))
}

/// The user, if the password is right; if its hash is outdated, it is to be replaced.
fn accept(user: User, verdict: Verdict, outdated: &mut Vec<NewPassword>) -> Option<User> {
    match verdict {
        Verdict::Wrong | Verdict::TooSoon(_) => None,
        Verdict::Right => Some(user),
        Verdict::Outdated(password) => {
            let replaces = user.password.clone()?;
            outdated.push(NewPassword { user: user.number, replaces, password });
            Some(user)
        }
    }
}

/// Has outdated hashes replaced. Nobody waits for it, and if it fails the next login does it: whoever
/// has the right password gets in also while nothing can be stored.
fn replace(app: &App, outdated: Vec<NewPassword>) {
    if outdated.is_empty() {
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        if let Err(error) = change(&app, Change::SetPasswords(outdated)).await {
            tracing::warn!(?error, "an outdated password hash stays until the next login");
        }
    });
}

fn too_many_attempts() -> Refusal {
    Refusal::new(Code::TooManyAttempts, "Too many failed logins, try again later")
}

/// Nobody looks at the password before that time is over.
pub fn too_soon(wait: Duration) -> ApiError {
    ApiError::for_a_while(too_many_attempts(), wait)
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

fn logged_in(app: &App, user: User) -> Result<LoggedIn, ApiError> {
    let token = token(app, user.number, &user.username, user.generation)?;
    Ok(LoggedIn { token, username: user.username, user_id: user.number })
}

/// A token of that generation for a user.
pub fn token(app: &App, number: UserId, username: &str, generation: u32) -> Result<String, Refusal> {
    app.tokens.issue(number, username, generation).map_err(|error| {
        tracing::error!(%error, "cannot sign a token");
        internal()
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
