//! Who may come in: user name = client id = the terminal's serial, and its password.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::packets::{Login, Refusal};
use crate::config::Secret;
use crate::terminals::mqtt::face::desk::Standing;
use crate::terminals::mqtt::topics::is_serial;

/// The rules of admission.
#[derive(Clone, Debug)]
pub struct Gate {
    /// A terminal without a password is let in by its client id alone.
    pub trust_client_id: bool,
    /// The password of every terminal without its own.
    pub shared: Option<Secret>,
}

/// A login that is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whether anything vouches for the client being this terminal. When nothing does, it may wait on the pending list
    /// and no more, even after its serial was approved.
    pub vouched: bool,
}

impl Gate {
    /// Judges a login; `standing` is that of its client id.
    pub fn judge(&self, login: &Login, standing: &Standing) -> Result<Admission, Refusal> {
        if !is_serial(&login.client_id) {
            return Err(Refusal::ClientId);
        }
        let own = match standing {
            Standing::Known(terminal) => terminal.password.as_ref(),
            Standing::Unknown => None,
            Standing::OtherProtocol => return Err(Refusal::ClientId),
        };
        match own.or(self.shared.as_ref()) {
            Some(secret) if is_proved(login, secret) => Ok(Admission { vouched: true }),
            Some(_) => Err(Refusal::Credentials),
            None if self.trust_client_id => Ok(Admission { vouched: true }),
            None if matches!(standing, Standing::Unknown) => Ok(Admission { vouched: false }),
            None => Err(Refusal::Credentials),
        }
    }
}

/// Takes as long for a wrong password as for the right one.
fn is_proved(login: &Login, secret: &Secret) -> bool {
    let named = login.user_name.as_deref() == Some(login.client_id.as_str());
    let given = Sha256::digest(login.password.as_deref().unwrap_or_default());
    let right = Sha256::digest(secret.0.as_bytes());
    let same: bool = given.as_slice().ct_eq(right.as_slice()).into();
    named && same && login.password.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DirectionRule;
    use crate::punch::TerminalId;
    use crate::terminals::hub::Terminal;

    fn login(user_name: Option<&str>, password: Option<&str>) -> Login {
        Login {
            client_id: "1306612".to_owned(),
            user_name: user_name.map(str::to_owned),
            password: password.map(|password| password.as_bytes().to_vec()),
            will: None,
        }
    }

    fn known(password: Option<&str>) -> Standing {
        Standing::Known(Terminal {
            id: TerminalId::from("north-in"),
            protocol: "mqtt-face".to_owned(),
            serial: "1306612".to_owned(),
            direction: DirectionRule::In,
            password: password.map(|password| Secret(password.to_owned())),
        })
    }

    fn gate(trust_client_id: bool, shared: Option<&str>) -> Gate {
        Gate { trust_client_id, shared: shared.map(|shared| Secret(shared.to_owned())) }
    }

    const VOUCHED: Result<Admission, Refusal> = Ok(Admission { vouched: true });
    const WRONG: Result<Admission, Refusal> = Err(Refusal::Credentials);

    #[test]
    fn the_terminals_own_password_wins_over_the_shared_one() {
        let gate = gate(true, Some("shared"));
        assert_eq!(gate.judge(&login(Some("1306612"), Some("own")), &known(Some("own"))), VOUCHED);
        assert_eq!(gate.judge(&login(Some("1306612"), Some("shared")), &known(Some("own"))), WRONG);
        assert_eq!(gate.judge(&login(Some("1306612"), Some("shared")), &known(None)), VOUCHED);
    }

    #[test]
    fn a_missing_password_or_anothers_name_is_refused_where_a_password_is_set() {
        let gate = gate(true, Some("shared"));
        for login in [login(None, None), login(Some("1306612"), None), login(Some("admin"), Some("shared"))] {
            assert_eq!(gate.judge(&login, &known(None)), WRONG);
        }
        assert_eq!(gate.judge(&login(Some("1306612"), Some("guess")), &Standing::Unknown), WRONG);
    }

    #[test]
    fn without_any_password_the_client_id_counts_only_where_it_is_trusted() {
        let anybody = login(Some("admin"), Some("whatever"));
        assert_eq!(gate(true, None).judge(&anybody, &known(None)), VOUCHED);
        assert_eq!(gate(false, None).judge(&anybody, &known(None)), WRONG);
        let pending = Ok(Admission { vouched: false });
        assert_eq!(gate(false, None).judge(&anybody, &Standing::Unknown), pending);
    }

    #[test]
    fn an_id_that_is_no_serial_or_belongs_to_a_reader_is_refused() {
        let mut odd = login(None, None);
        odd.client_id = "a/b".to_owned();
        let refused = Err(Refusal::ClientId);
        assert_eq!(gate(true, None).judge(&odd, &Standing::Unknown), refused);
        assert_eq!(gate(true, None).judge(&login(None, None), &Standing::OtherProtocol), refused);
    }
}
