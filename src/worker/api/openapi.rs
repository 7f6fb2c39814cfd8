//! The surface described by itself: an OpenAPI 3.1 document made from the handlers.

use axum::Json;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{
    accounts, admin, challenges, members, messages, metrics, new_rooms, operator, participants,
    participation, profile, ranking, rooms, search, tokens,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Minitalk", description = "Chat and live challenges over REST"),
    paths(
        accounts::signup,
        accounts::signup_batch,
        accounts::login,
        accounts::login_batch,
        tokens::ticket,
        tokens::logout_all,
        tokens::password,
        profile::show,
        profile::edit,
        admin::delete_all_users,
        admin::delete_all_messages,
        new_rooms::create,
        new_rooms::create_batch,
        rooms::list,
        rooms::invite,
        rooms::join,
        rooms::leave,
        participants::participants,
        messages::history,
        search::search,
        members::test_login,
        challenges::create,
        challenges::list,
        challenges::one,
        participation::join,
        participation::cancel,
        participation::enter,
        ranking::ranking,
        ranking::stream,
        operator::health,
        operator::ready,
        operator::stats,
        metrics::metrics,
        metrics::prometheus,
    ),
    modifiers(&Token, &Otherwise)
)]
struct Document;

/// Names the bearer token that calls refer to as `token`.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// Every call of the chat may be refused for reasons that are not its own: a limit, a body too large or too slow,
/// a server that is overloaded or leaves. They all look alike.
struct Otherwise;

impl Modify for Otherwise {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let refused = ResponseBuilder::new()
            .description("Any other refusal, such as 413, 429 or 503")
            .content("application/json", problem)
            .build();
        let paths = document.paths.paths.iter_mut();
        for (_, path) in paths.filter(|(name, _)| !name.starts_with("/api/v1/")) {
            for call in
                [&mut path.get, &mut path.post, &mut path.patch, &mut path.delete].into_iter().flatten()
            {
                call.responses.responses.insert("default".to_owned(), refused.clone().into());
            }
        }
    }
}

/// `GET /api/openapi.json`
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
