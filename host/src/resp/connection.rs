//! One client's connection: read, answer all that is complete, write.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Duration, Instant, timeout};

use super::alarm::Alarm;
use super::backend::Backend;
use super::carried;
use super::close::Close;
use super::data;
use super::info::{self, Facts};
use super::local::Local;
use super::reply::{Output, Refusal, Value};
use super::request::{Args, Gate};
use super::run::{Item, Kind, Run};
use super::server::{Server, Shared, ended};
use super::session::Session;
use super::table::{self, COMMANDS, Handler};
use crate::kv::{Failure, Query, Reply};

/// Room for each read. A burst of 64 small requests fits.
const READ_BYTES: usize = 16 << 10;
/// What a connection's buffers may take without being counted, and are cut back to.
const SMALL_BYTES: usize = 64 << 10;
/// Answers beyond this leave before the next run begins.
const FLUSH_BYTES: usize = 256 << 10;
/// What the write time-out is for.
const WRITE_BYTES: usize = 1 << 20;
/// How long, and how much, a connection that ends on an error is still read: a reset for unread bytes would take the error with it.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection<B> {
    server: Arc<Server<B>>,
    stream: TcpStream,
    shutdown: watch::Receiver<bool>,
    alarm: Alarm,
    session: Session,
    gate: Gate,
    input: BytesMut,
    /// What the input takes beyond [`SMALL_BYTES`].
    large: Option<OwnedSemaphorePermit>,
    /// When the request came that is not complete yet.
    request_began: Option<Instant>,
    run: Run,
    output: Output,
}

/// What is to be done for a request.
enum Plan {
    Item(Item),
    Info,
    Session,
    Local(fn(Args<'_>, &mut Local<'_>) -> Result<Value, Refusal>),
}

impl<B: Backend> Connection<B> {
    pub(super) fn new(server: Arc<Server<B>>, stream: TcpStream, session: Session, shutdown: watch::Receiver<bool>) -> Self {
        let gate = Gate::new(server.shared.limits.max_request_bytes);
        let output = Output::new(server.shared.metrics.clone());
        Self {
            server,
            stream,
            shutdown,
            alarm: Alarm::new(),
            session,
            gate,
            input: BytesMut::new(),
            large: None,
            request_began: None,
            run: Run::new(),
            output,
        }
    }

    /// Serves the client until either side ends it.
    pub(super) async fn serve(mut self) -> (SocketAddr, Close) {
        let close = loop {
            if let Err(close) = self.turn().await {
                break close;
            }
        };
        self.end(&close).await;
        (self.session.remote, close)
    }

    async fn turn(&mut self) -> Result<(), Close> {
        self.receive().await?;
        self.answer().await?;
        self.flush().await?;
        if self.input.is_empty() && self.large.take().is_some() {
            self.input = BytesMut::new();
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Close> {
        let limits = &self.server.shared.limits;
        let (deadline, late) = match self.request_began {
            Some(began) => (began + limits.request_timeout, Close::SlowRequest(limits.request_timeout)),
            None => (Instant::now() + limits.idle_timeout, Close::Idle(limits.idle_timeout)),
        };
        self.make_room()?;
        let read = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => read,
            () = self.alarm.at(deadline) => return Err(late),
            () = ended(&mut self.shutdown) => return Err(Close::Shutdown),
        };
        match read {
            Err(error) => Err(Close::Io(error)),
            Ok(0) if self.input.is_empty() => Err(Close::Ended),
            Ok(0) => Err(Close::CutShort),
            Ok(bytes) => {
                self.server.shared.metrics.received_bytes.inc_by(bytes as u64);
                Ok(())
            }
        }
    }

    /// Makes room for a read. A long request's room grows with what has come, never to what a header promises.
    fn make_room(&mut self) -> Result<(), Close> {
        self.input.reserve(READ_BYTES);
        let held = self.large.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = self.input.capacity().saturating_sub(SMALL_BYTES + held);
        if more == 0 {
            return Ok(());
        }
        let Shared { buffers, limits, .. } = &self.server.shared;
        let granted = u32::try_from(more).ok().and_then(|more| buffers.clone().try_acquire_many_owned(more).ok());
        let Some(granted) = granted else { return Err(Close::OutOfBuffers(limits.max_buffered_bytes)) };
        match &mut self.large {
            Some(large) => large.merge(granted),
            None => self.large = Some(granted),
        }
        Ok(())
    }

    /// Answers all requests that are complete.
    async fn answer(&mut self) -> Result<(), Close> {
        // Aside, so that requests can borrow it while the rest changes.
        let mut input = std::mem::take(&mut self.input);
        let before = input.len();
        let outcome = self.take_requests(&mut input).await;
        if input.is_empty() {
            self.request_began = None;
        } else if self.request_began.is_none() || input.len() < before {
            self.request_began = Some(Instant::now());
        }
        self.input = input;
        self.settle().await?;
        outcome
    }

    async fn take_requests(&mut self, input: &mut BytesMut) -> Result<(), Close> {
        while let Some(request) = self.gate.next(input)? {
            let args = request.args(input);
            if args.len() > 0 {
                self.dispatch(args).await?;
            }
            input.advance(request.bytes);
            if self.session.quitting {
                return Err(Close::Quit);
            }
        }
        Ok(())
    }

    async fn dispatch(&mut self, args: Args<'_>) -> Result<(), Close> {
        let index = table::find(args.get(0));
        if index.is_none() && is_http(args.get(0)) {
            return Err(Close::Http);
        }
        self.server.shared.metrics.command(index);
        let plan = index.ok_or_else(|| table::unknown(args)).and_then(|index| self.plan(index, args));
        let value = match plan {
            Ok(Plan::Item(item)) => {
                if !self.run.takes(&item) {
                    self.settle().await?;
                }
                self.run.push(item);
                return Ok(());
            }
            // What is answered here has its turn after what the node has still to answer.
            Ok(Plan::Info) => {
                self.settle().await?;
                Ok(self.info(args).await)
            }
            Ok(Plan::Session) => {
                self.settle().await?;
                carried::execute(args, &mut self.session.carried, &self.server.backend).await
            }
            Ok(Plan::Local(act)) => {
                self.settle().await?;
                act(args, &mut Local { session: &mut self.session, shared: &self.server.shared })
            }
            Err(refusal) => {
                self.settle().await?;
                Err(refusal)
            }
        };
        self.output.protocol = self.session.protocol;
        match value {
            Ok(value) => self.output.value(value),
            Err(refusal) => self.output.refuse(&refusal),
        }
        self.flush_if_long().await
    }

    fn plan(&self, index: usize, args: Args<'_>) -> Result<Plan, Refusal> {
        let command = &COMMANDS[index];
        command.check_arity(args)?;
        Ok(match command.handler {
            Handler::Write(parse) => {
                let write = parse(args)?;
                write.check()?;
                Plan::Item(Item::write(&write))
            }
            Handler::Read(parse) => {
                let query = parse(args)?;
                query.check()?;
                Plan::Item(Item::read(&query).local_if(self.session.read_only))
            }
            // A token is never checked against a state that may be stale.
            Handler::Either(parse) => Plan::Item(parse(args)?),
            Handler::Scan => Plan::Item(Item::scan(data::scan(args, &self.server.shared.cursors)?).local_if(self.session.read_only)),
            Handler::Info => Plan::Info,
            Handler::Session => Plan::Session,
            Handler::Local(act) => Plan::Local(act),
        })
    }

    /// Lets the node carry out the run, and adds its answers.
    async fn settle(&mut self) -> Result<(), Close> {
        if self.run.is_empty() {
            return Ok(());
        }
        let (kind, commands) = self.run.take();
        let asked = commands.len();
        let metrics = &self.server.shared.metrics;
        let began = Instant::now();
        let got = match kind {
            Kind::Write => {
                let first = self.session.carried.as_mut().map(|carried| carried.take(asked as u64));
                let results = self.server.backend.write(commands, first).await;
                metrics.wrote(began.elapsed());
                for (number, result) in (0..).zip(&results) {
                    match result {
                        Ok(result) => add(&mut self.output, &self.server.shared, result),
                        Err(error) => self.output.refuse(&carried::refusal(error, first.map(|first| first.later(number)))),
                    }
                }
                results.len()
            }
            Kind::Read | Kind::LocalRead => {
                let answers = match kind {
                    Kind::LocalRead => self.server.backend.read_local(commands).await,
                    _ => self.server.backend.read(commands).await,
                };
                metrics.read(began.elapsed());
                match answers {
                    Ok(answers) => {
                        answers.iter().for_each(|answer| add(&mut self.output, &self.server.shared, answer));
                        answers.len()
                    }
                    Err(error) => {
                        let refusal = Refusal::from(&error);
                        (0..asked).for_each(|_| self.output.refuse(&refusal));
                        asked
                    }
                }
            }
        };
        if got != asked {
            return Err(Close::Backend { asked, got });
        }
        self.flush_if_long().await
    }

    async fn info(&mut self, args: Args<'_>) -> Value {
        let backend = &self.server.backend;
        let keys = if info::wants(args, "keyspace") {
            let answers = backend.read(vec![Query::DbSize.encode()]).await.unwrap_or_default();
            answers.first().and_then(|answer| match Reply::decode(answer) {
                Some(Reply::Integer(keys)) => Some(keys),
                _ => None,
            })
        } else {
            None
        };
        let status = backend.status().await;
        Value::Text(info::render(args, &Facts { shared: &self.server.shared, port: self.session.local.port(), status, keys }))
    }

    async fn flush_if_long(&mut self) -> Result<(), Close> {
        if self.output.buffer.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Close> {
        let shared = &self.server.shared;
        let patience = shared.limits.write_timeout;
        for chunk in self.output.buffer.chunks(WRITE_BYTES) {
            // The socket takes most answers at once, and they need no timer. An error shows again below.
            let sent = self.stream.try_write(chunk).unwrap_or(0);
            if sent < chunk.len() {
                let rest = timeout(patience, self.stream.write_all(&chunk[sent..])).await;
                rest.map_err(|_| Close::SlowWrite(patience))?.map_err(Close::Io)?;
            }
            shared.metrics.sent_bytes.inc_by(chunk.len() as u64);
        }
        self.output.buffer.clear();
        if self.output.buffer.capacity() > SMALL_BYTES {
            self.output.buffer = BytesMut::new();
        }
        Ok(())
    }

    /// Tells the client why, where it can know, and sees to it that the client gets to read it.
    async fn end(&mut self, close: &Close) {
        if matches!(close, Close::SlowWrite(_) | Close::Io(_)) {
            return;
        }
        let farewell = close.farewell();
        if let Some(text) = &farewell {
            self.output.refuse(&text.clone().into());
        }
        if self.flush().await.is_err() || self.stream.shutdown().await.is_err() || farewell.is_none() {
            return;
        }
        let mut left = LINGER_BYTES;
        let _ = timeout(LINGER, async {
            while left > 0 {
                self.input.clear();
                self.input.reserve(READ_BYTES);
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => left = left.saturating_sub(bytes),
                }
            }
        })
        .await;
    }
}

/// Adds a result of the state machine.
fn add(output: &mut Output, shared: &Shared, result: &[u8]) {
    match Reply::decode(result) {
        Some(reply) => output.reply(&reply, |key| shared.cursors.keep(key)),
        None => output.refuse(&Failure::NotUnderstood.into()),
    }
}

/// A browser can be made to send requests here. As in Redis, its words end the connection before the body can do harm.
fn is_http(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}
