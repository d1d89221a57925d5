//! Every call that can be made here, and who may make it at all. What is not on the list is nobody's: a new call is closed
//! to everybody until it has its line. The services behind the door ask for more (a lane, a wallet).

/// Who may make a call at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// Whom the policy in force knows as a client.
    Client,
    /// The same, where it may have addresses of some wallet attested. The service asks of which.
    Attests,
    /// The same, where it serves officers.
    Officers,
    /// The same, and whom it names as a witness. The service asks which of them may.
    ClientOrWitness,
}

/// One call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Who may make it.
    pub grant: Grant,
    /// Open also to those whose revocation nobody can tell: for calls that can only stop things.
    pub despite_unknown_revocation: bool,
    /// Open also to a client that is locked out, where it serves officers: what they stop, and that they free it, must come through.
    pub despite_lock: bool,
    /// Its whole message is read before the service sees it, and can be large.
    pub reads_all: bool,
}

const fn client(path: &'static str) -> Call {
    Call {
        path,
        grant: Grant::Client,
        despite_unknown_revocation: false,
        despite_lock: false,
        reads_all: false,
    }
}

const fn of_log(path: &'static str) -> Call {
    Call { grant: Grant::ClientOrWitness, ..client(path) }
}

const fn of_officers(path: &'static str) -> Call {
    Call { grant: Grant::Officers, despite_lock: true, ..client(path) }
}

/// All of them.
pub const CALLS: &[Call] = &[
    client("/cofferdam.v1.Signer/Sign"),
    Call { grant: Grant::Attests, reads_all: true, ..client("/cofferdam.v1.Signer/Attest") },
    client("/cofferdam.v1.Signer/Order"),
    client("/cofferdam.v1.Signer/Status"),
    of_log("/cofferdam.v1.Log/Newest"),
    of_log("/cofferdam.v1.Log/Consistency"),
    of_log("/cofferdam.v1.Log/Inclusion"),
    of_log("/cofferdam.v1.Log/Entries"),
    of_log("/cofferdam.v1.Log/Witness"),
    of_officers("/cofferdam.v1.Officers/Pending"),
    of_officers("/cofferdam.v1.Officers/Show"),
    of_officers("/cofferdam.v1.Officers/ShowOrder"),
    // A freeze must come through when nobody can tell what is revoked; what officers say is signed by themselves. What lets
    // something happen is refused there.
    Call { despite_unknown_revocation: true, ..of_officers("/cofferdam.v1.Officers/Submit") },
    // An expired list must not keep the next one out; what comes in is signed by officers and by the authority.
    Call {
        despite_unknown_revocation: true,
        reads_all: true,
        ..of_officers("/cofferdam.v1.Officers/PushRevocations")
    },
    // The same: it is signed by officers. What does not provably tighten alone is refused there.
    Call {
        despite_unknown_revocation: true,
        reads_all: true,
        ..of_officers("/cofferdam.v1.Officers/PushPolicy")
    },
    Call { grant: Grant::Officers, ..client("/cofferdam.v1.Officers/Notifications") },
    client("/grpc.health.v1.Health/Check"),
    client("/grpc.health.v1.Health/Watch"),
    // Served in development alone.
    client("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
];

/// The call of a path, if it has its line.
#[must_use]
pub fn call(path: &str) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.path == path)
}
