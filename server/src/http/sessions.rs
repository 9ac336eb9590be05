//! Opening sessions (SPEC 4.3), and the grants that make one possible.

use super::{
    App, Json, body,
    known::{Crowded, is_known},
    params::Id,
    seal::Seal,
    session::from,
};
use crate::{
    error::ApiError,
    sessions::Session,
    store::{InviteId, InviteToken, SessionRequest, ShownGrant, ShownInvite, Writer},
};
use axum::extract::{Request, State};
use backstop_protocol::{
    api::{INVITE_MAX, JSON_MAX, KnownGrants, SessionOpened, TOKEN_LIFE_MS},
    clock::UnixMillis,
    grant::{Grant, SignedGrant},
    id::AccessKey,
    session::{Opening, SignedOpening},
};
use std::sync::Arc;

pub(super) async fn open(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<SessionOpened>, ApiError> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, JSON_MAX, app.body_grace).await?;
    let signed: SignedOpening = serde_json::from_slice(&body).map_err(ApiError::malformed)?;
    let opening = signed.verify()?;
    // From here on the client can tell the server's word from a hop's.
    let key = app
        .sessions
        .opening_key(opening.access_key, &body)
        .map_err(|error| ApiError::BadOpening(error.to_string()))?;
    if let Some(seal) = parts.extensions.get::<Seal>() {
        seal.set(Arc::new(key), [0; 32]);
    }
    if opening.server != app.sessions.server_key() {
        return Err(ApiError::BadOpening(
            "the opening is meant for another server".to_owned(),
        ));
    }
    let now = app.clock.now();
    if let Some(Crowded(wait)) = parts.extensions.get::<Crowded>()
        && !is_known(&app, opening.access_key, now).await
    {
        return Err(ApiError::TooManyRequests(*wait));
    }
    app.limiter
        .opening(opening.access_key, from(&parts.extensions), now)
        .map_err(ApiError::TooManyRequests)?;
    let (account, state) = app.store.open_session(session_request(&signed, now)?).await?;
    app.known.add(opening.access_key);
    app.metrics.session_opened(opening.scope);
    let token = app.sessions.issue(&Session {
        account,
        access_key: opening.access_key,
        writer: opening.writer.as_ref().map(Writer::from),
        takeover: opening.writer.as_ref().is_some_and(|claim| claim.takeover),
        expires_at: UnixMillis(now.0.saturating_add(TOKEN_LIFE_MS)),
    });
    Ok(Json(SessionOpened {
        token,
        expires_in_ms: TOKEN_LIFE_MS,
        account: state,
    }))
}

fn session_request(signed: &SignedOpening, now: UnixMillis) -> Result<SessionRequest, ApiError> {
    let opening = &signed.opening;
    let grant = opening
        .grant
        .as_ref()
        .map(|signed| shown(opening, signed))
        .transpose()?;
    Ok(SessionRequest {
        node: opening.node,
        network: opening.network,
        access_key: opening.access_key,
        scope: opening.scope,
        grant,
        claim: opening.writer,
        invite: signed.invite.as_deref().map(shown_invite).transpose()?,
        now,
    })
}

/// One that cannot be read is judged like one that is not known.
fn shown_invite(text: &str) -> Result<ShownInvite, ApiError> {
    if text.len() > INVITE_MAX {
        return Err(ApiError::malformed("the invitation is too long"));
    }
    let nobodys = ShownInvite {
        id: InviteId([0; 4]),
        hash: [0; 32],
    };
    Ok(InviteToken::read(text).map_or(nobodys, |token| token.shown()))
}

fn shown(opening: &Opening, signed: &SignedGrant) -> Result<ShownGrant, ApiError> {
    let grant: Grant = signed.verify()?;
    let speaks_for = (grant.node, grant.network, grant.access_key);
    if speaks_for != (opening.node, opening.network, opening.access_key) {
        return Err(ApiError::GrantInvalid(
            "the grant speaks of another node, network or access key than the opening".to_owned(),
        ));
    }
    Ok(ShownGrant {
        grant,
        signed: signed.clone(),
    })
}

pub(super) async fn grants(
    State(app): State<Arc<App>>,
    Id(access_key): Id<AccessKey>,
) -> Result<Json<KnownGrants>, ApiError> {
    let grants = app.store.grants(access_key).await?;
    Ok(Json(KnownGrants { grants }))
}
