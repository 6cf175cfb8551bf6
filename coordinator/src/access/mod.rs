//! Access control: TLS, tokens with roles, and the quotas of each caller.
//!
//! ```text
//! connections    accepts connections: TLS, and an end to those that stay anonymous or take nothing
//! registry       how many connections there are, and which gives way to a new one
//! tls            certificates, read again when their files change
//! tokens         the file of tokens, read again when it changes
//! page_token     the token of the page's own, for coordinators without tokens
//! routes         the table of paths: audience, duration, name in metrics
//! layer          checks every request: token, role, rate, and how many are open
//! buffer         receives a call's request before the call occupies anything
//! quotas         counts what each caller has open
//! rejection_log  logs each cause of rejection once a minute and peer
//! ```
//! A handler finds out who asks with [`Admitted::of`], and whether a sweep is the caller's with [`authorise`]. Deliberately
//! absent: passwords, and users of its own; a name is whatever the file of tokens calls it.

mod buffer;
mod connections;
mod layer;
mod page_token;
mod quotas;
mod registry;
mod rejection_log;
mod routes;
mod tls;
mod tokens;

pub(crate) use connections::{Peer, accept};
pub(crate) use layer::{AuthLayer, AuthPolicy};
pub(crate) use page_token::PageToken;
pub(crate) use quotas::{CallerQuotas, QuotaPermits, UploadQuota, WorkerBindings};
pub(crate) use rejection_log::RejectionLog;
pub(crate) use routes::PageRoute;
pub use tls::TlsError;
pub(crate) use tls::{ServerTls, TlsFiles};
pub use tokens::TokensError;
pub(crate) use tokens::{Tokens, refresh};

use nadgrid_proto::status::Reason;
use quotas::CallerQuota;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

/// The time between two checks of files for changes.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// The actions that a caller is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// Everything, because this coordinator has no tokens.
    Everything,
    /// The actions of users on their own sweeps.
    User {
        /// Whether that includes everybody's sweeps.
        admin: bool,
    },
    /// The actions of workers.
    Worker,
}

/// The holder of a token, who sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The token's name; empty if this coordinator has no tokens.
    pub(crate) name: Arc<str>,
    pub(crate) right: Right,
    /// Cancelled when the token is revoked or expires, which ends the caller's streams.
    pub(crate) revoked: CancellationToken,
}

impl Caller {
    /// The caller of a coordinator without tokens.
    fn anybody() -> Self {
        Self { name: "".into(), right: Right::Everything, revoked: CancellationToken::new() }
    }

    /// Whether this caller may see sweeps of this owner.
    pub(crate) fn sees(&self, owner: &str) -> bool {
        match self.right {
            Right::Everything | Right::User { admin: true } => true,
            Right::User { admin: false } => *self.name == *owner,
            Right::Worker => false,
        }
    }
}

/// Checks whether the caller may see and control sweeps of this owner.
///
/// # Errors
/// `NOT_YOURS` if not.
pub(crate) fn authorise(caller: &Caller, owner: &str) -> Result<(), Status> {
    if caller.sees(owner) {
        return Ok(());
    }
    Err(Reason::NotYours.status(format!("the sweep does not belong to {} but to another user", caller.name)))
}

/// An admitted request: its caller, its connection and the caller's quota.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) peer: Peer,
    /// Whether the page may change anything in this caller's name.
    pub(crate) may_write: bool,
    quota: Arc<CallerQuota>,
}

impl Admitted {
    /// The admission of a request.
    ///
    /// # Errors
    /// `INTERNAL` for a request that did not pass the layer, which cannot happen.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions().get::<Self>().cloned();
        admitted.ok_or_else(|| Reason::Internal.status("the request did not pass the access layer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_is_its_owners_and_admins() {
        let caller = |name: &str, right| Caller { name: name.into(), right, ..Caller::anybody() };
        let ada = caller("ada", Right::User { admin: false });
        assert!(authorise(&ada, "ada").is_ok());
        let refused = authorise(&ada, "bob").unwrap_err();
        assert!(Reason::NotYours.is_of(&refused) && refused.code() == tonic::Code::PermissionDenied);
        // Sweeps that were submitted before there were tokens are the admins'.
        assert!(authorise(&ada, "").is_err());
        assert!(authorise(&caller("root", Right::User { admin: true }), "bob").is_ok());
        assert!(authorise(&caller("", Right::Everything), "bob").is_ok());
        assert!(authorise(&caller("bob", Right::Worker), "bob").is_err());
    }
}
