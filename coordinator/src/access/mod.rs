//! Who may ask what: TLS, tokens with roles, and the shares that each caller has.
//!
//! ```text
//! incoming     connections: TLS, and an end to those that stay anonymous or take nothing
//! connections  how many there are, and who gives way to a new one
//! tls          certificates, taken up again when their files change
//! tokens       the file of tokens, taken up again when it changes
//! gate         every request: token, role, rate, and how many at once
//! whole        a call's request, before the call takes a place
//! shares       what a caller has open, counted
//! refusals     each cause of refusal is logged once a minute and peer
//! ```
//! A handler finds out who asks with [`Admitted::of`], and whether a sweep is theirs with [`authorise`]. Deliberately
//! absent: passwords and users of its own; a name is whatever the file of tokens says.

mod connections;
mod gate;
mod incoming;
mod refusals;
mod shares;
mod tls;
mod tokens;
mod whole;

pub(crate) use gate::Gate;
pub(crate) use incoming::{Peer, accept};
pub(crate) use refusals::{OnceAMinute, Refusals};
pub(crate) use shares::{Bindings, Places, Quota, Shares};
pub use tls::TlsError;
pub(crate) use tls::{Acceptor, TlsFiles};
pub use tokens::TokensError;
pub(crate) use tokens::{Tokens, refresh};

use nadgrid_proto::status::Reason;
use shares::Account;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

/// How often files are looked at for changes.
const LOOK: Duration = Duration::from_secs(2);

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// All of it: this coordinator has no tokens.
    Everything,
    /// What users ask; of all sweeps or of their own.
    User {
        /// Sees and steers everybody's sweeps.
        admin: bool,
    },
    /// What workers ask.
    Worker,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The token's name; empty when this coordinator has no tokens.
    pub(crate) name: Arc<str>,
    pub(crate) right: Right,
    /// Cancelled when the token is revoked or expires: streams end with it.
    pub(crate) revoked: CancellationToken,
}

impl Caller {
    /// Whoever asks a coordinator without tokens.
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

/// Whether a sweep of this owner is the caller's to see and to steer.
///
/// # Errors
/// `NOT_YOURS`.
pub(crate) fn authorise(caller: &Caller, owner: &str) -> Result<(), Status> {
    if caller.sees(owner) {
        return Ok(());
    }
    Err(Reason::NotYours.status(format!("the sweep belongs to another user than {}", caller.name)))
}

/// A request that was let in: who asks, over which connection, with which shares.
#[derive(Clone)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    pub(crate) peer: Peer,
    /// Whether the page may change anything in this caller's name.
    pub(crate) may_write: bool,
    account: Arc<Account>,
}

impl Admitted {
    /// Who sent a request.
    ///
    /// # Errors
    /// None that a request through the gate has.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let admitted = request.extensions().get::<Self>().cloned();
        admitted.ok_or_else(|| Reason::Internal.status("the request did not come through the gate"))
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
        // Submitted before there were tokens: an admin's.
        assert!(authorise(&ada, "").is_err());
        assert!(authorise(&caller("root", Right::User { admin: true }), "bob").is_ok());
        assert!(authorise(&caller("", Right::Everything), "bob").is_ok());
        assert!(authorise(&caller("bob", Right::Worker), "bob").is_err());
    }
}
