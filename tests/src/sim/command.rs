//! What clients ask of the replicated registers, as the bytes of a command.

use amaters_cluster_core::Token;

use super::linearizability::{Call, Value};

/// How many registers there are: few, so that requests meet.
pub(super) const REGISTERS: usize = 2;

/// What all commands hold: a sealed cluster shows it to no disk and to nobody between its nodes.
pub(super) const PLAIN: &[u8] = b"plaintext";

/// A command: `#170.1=` writes 170 into register 1, `#170.1?165` does so if it holds 165. A write's value is its request's token, which nobody else
/// writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command {
    /// The request.
    pub(super) token: Token,
    /// Which register.
    pub(super) register: usize,
    /// The value that the register must hold; none for a plain write.
    pub(super) expected: Option<Value>,
}

impl Command {
    /// Its bytes, with as many dots as `bytes` asks for.
    pub(super) fn encode(&self, bytes: usize) -> Vec<u8> {
        let Self { token, register, expected } = self;
        let text = match expected {
            None => format!("#{token}.{register}=.plaintext."),
            Some(expected) => format!("#{token}.{register}?{expected}.plaintext."),
        };
        format!("{text:.<bytes$}").into_bytes()
    }

    /// The command of some bytes; none for what no client has sent.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(bytes).ok()?.strip_prefix('#')?.split('.');
        let (token, action) = (parts.next()?.parse().ok()?, parts.next()?);
        let (register, expected) = match action.split_once('?') {
            Some((register, expected)) => (register, Some(expected.parse().ok()?)),
            None => (action.strip_suffix('=')?, None),
        };
        let register = register.parse().ok().filter(|register| *register < REGISTERS)?;
        Some(Self { token: Token(token), register, expected })
    }

    /// What its client calls it.
    pub(super) fn call(&self) -> Call {
        let new = self.token.0;
        self.expected.map_or(Call::Write(new), |expected| Call::CompareAndSet { expected, new })
    }
}

/// The request of a command.
pub(super) fn token_of(bytes: &[u8]) -> Option<Token> {
    Command::decode(bytes).map(|command| command.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_request() {
        for expected in [None, Some(165)] {
            for bytes in [0, 4, 300] {
                let command = Command { token: Token(170), register: 1, expected };
                let encoded = command.encode(bytes);
                assert!(encoded.len() >= bytes);
                assert_eq!(Command::decode(&encoded), Some(command));
                assert!(encoded.windows(PLAIN.len()).any(|part| part == PLAIN));
            }
        }
        for other in ["something else", "#1", "#1.", "#1.9=.", "#x.1=.", "#1.1.", "#1.1?."] {
            assert_eq!(token_of(other.as_bytes()), None, "{other}");
        }
    }
}
