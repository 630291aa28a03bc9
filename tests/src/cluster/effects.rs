//! Carries out what nodes ask for.

use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;

use amaters_cluster_core::{Applied, Effect, LogIndex, NodeId, wire};

use super::vault::decode;
use super::{Cluster, Event, InFlight, Member, Outcome};

impl Cluster {
    pub(super) fn carry_out(&mut self, id: NodeId, effect: Effect) {
        digest(&mut self.digest, id, &effect);
        let event = match effect {
            Effect::Persist { ticket, operations } => {
                self.member_mut(id).disk.submit(ticket, operations.clone());
                Event::Submitted(id, ticket, operations)
            }
            Effect::Send { to, envelope } | Effect::SendBulk { to, envelope } => {
                let envelope = Rc::new(wire::decode_envelope(&envelope).expect("a node's own envelopes are well-formed"));
                assert_eq!((envelope.from, envelope.to), (id, to), "an envelope names its sender and its receiver");
                self.pool.push(InFlight { envelope: Rc::clone(&envelope), copy: false });
                Event::Sent(envelope)
            }
            Effect::Apply { commands } => {
                let member = self.member_mut(id);
                assert!(!member.vault.restoring, "nothing is applied to a state that is being replaced");
                for command in &commands {
                    member.machine.push(command.clone());
                    if command.result_wanted {
                        member.results.push(Applied { index: command.index, result: member.machine.len().to_string().into() });
                    }
                }
                let own = commands.iter().filter_map(|committed| Some((committed.token?, Outcome::Applied(committed.index))));
                self.outcomes.extend(own);
                Event::Applied(id, commands)
            }
            Effect::Reply { replies } => {
                self.outcomes.extend(replies.iter().map(|reply| (reply.token, Outcome::Replied(reply.index))));
                Event::Replied(id, replies)
            }
            Effect::ServeReads { tokens } => {
                assert!(!self.member(id).vault.restoring, "nothing is read from a state that is being replaced");
                let state = self.member(id).machine.last().map_or(LogIndex::NONE, |committed| committed.index);
                self.outcomes.extend(tokens.iter().map(|token| (*token, Outcome::Served(state))));
                Event::Served(id, tokens)
            }
            Effect::Done { tokens } => {
                self.outcomes.extend(tokens.iter().map(|token| (*token, Outcome::Done)));
                Event::Done(id, tokens)
            }
            Effect::Reject { requests } => {
                self.outcomes.extend(requests.iter().map(|rejected| (rejected.token, Outcome::Rejected(rejected.reason))));
                Event::Rejected(id, requests)
            }
            Effect::Members { version, members } => {
                self.member_mut(id).told = (version, members.clone());
                Event::Members(id, version, members)
            }
            Effect::Log { level, message } => Event::Noted(id, level, message),
            Effect::Failure { event } => Event::Judged(id, event),
            Effect::LeaderChanged { term, leader } => Event::Follows(id, term, leader),
            Effect::Repaired => {
                let member = self.member_mut(id);
                (member.config.repair, member.lost) = (false, None);
                Event::Repaired(id)
            }
            Effect::StateRestored => {
                let member = self.member_mut(id);
                member.vault.restoring = false;
                Event::Restored(id, member.machine.clone())
            }
            Effect::RequestKey { version } => {
                self.member_mut(id).wanted_key = Some(version);
                Event::WantsKey(id, version)
            }
            Effect::Diverged { reason } => Event::Diverged(id, reason),
            Effect::StateLost { reason } => panic!("node {id} has lost its state: {reason}"),
            other => self.carry_out_for_snapshots(id, other),
        };
        self.events.push(event);
    }

    fn carry_out_for_snapshots(&mut self, id: NodeId, effect: Effect) -> Event {
        let said = match &effect {
            Effect::RestoreState { piece } => format!("restores {} bytes of its state", piece.len()),
            other => format!("{other:?}"),
        };
        let Member { vault, machine, .. } = self.member_mut(id);
        match effect {
            Effect::CaptureState => vault.capture(machine),
            Effect::ReadState { max_bytes } => vault.read_state(max_bytes),
            Effect::ReleaseState => vault.release(),
            Effect::ClearState => {
                machine.clear();
                vault.restoring = true;
            }
            Effect::RestoreState { piece } => machine.extend(decode(&piece)),
            Effect::WriteSnapshot { id: snapshot, offset, bytes } => {
                vault.write(snapshot, offset, &bytes);
                return Event::WroteSnapshot(id, snapshot, offset, bytes);
            }
            Effect::FinishSnapshot { id } => vault.finish(id),
            Effect::DiscardSnapshot { id } => vault.discard(id),
            Effect::RetainSnapshots { ids } => vault.retain(&ids),
            Effect::ReadSnapshot { id, reader, offset, max_bytes } => vault.read(id, reader, offset, max_bytes),
            other => unreachable!("{other:?} has nothing to do with snapshots"),
        }
        Event::Snapshots(id, said)
    }
}

/// Everything that an effect says goes into the fingerprint.
fn digest(digest: &mut DefaultHasher, id: NodeId, effect: &Effect) {
    digest.write_u64(id.0);
    match effect {
        Effect::Send { to, envelope } => {
            digest.write_u64(to.0);
            digest.write(envelope);
        }
        other => digest.write(format!("{other:?}").as_bytes()),
    }
}
