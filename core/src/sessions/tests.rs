use super::*;

/// Sessions, and a log that grows by an entry for each call, an hour long unless a test says otherwise.
#[derive(Default)]
struct Log {
    sessions: Sessions,
    last: u64,
    time: LogTime,
    /// Commands whose results have not been given yet.
    open: Vec<LogIndex>,
}

const HOUR_MS: u64 = 3_600_000;

impl Log {
    fn with_session() -> (Self, SessionId) {
        let mut log = Self::default();
        let id = log.open_for(HOUR_MS);
        (log, id)
    }

    fn next(&mut self) -> LogIndex {
        self.last += 1;
        LogIndex(self.last)
    }

    fn open_for(&mut self, timeout_ms: u64) -> SessionId {
        let index = self.next();
        self.sessions.change(index, self.time, SessionChange::Open { timeout_ms }, None);
        SessionId(index.0)
    }

    /// A command; whether it is carried out. Its token is its place in the log.
    fn command(&mut self, session: SessionId, sequence: u64, acknowledged: u64) -> bool {
        let index = self.next();
        let stamp = SessionStamp { session, sequence, acknowledged };
        let first = self.sessions.command(index, self.time, &stamp, Some(Token(index.0)));
        self.open.extend(first.then_some(index));
        first
    }

    fn change(&mut self, change: SessionChange) -> Result<(LogIndex, Payload), Rejection> {
        let index = self.next();
        self.sessions.change(index, self.time, change, Some(Token(index.0)));
        self.answers().pop().expect("a change is answered").1
    }

    /// The host gives what results it has yet to give: each says its place.
    fn results(&mut self) {
        let results = self.open.drain(..).map(|index| Applied { index, result: index.to_string().into() }).collect();
        self.sessions.applied(results).expect("they are what is waited for");
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.sessions.take_answers()
    }
}

fn first(token: u64, index: u64) -> Answer {
    (Token(token), Ok((LogIndex(index), index.to_string().into())))
}

fn refused(token: u64, reason: Rejection) -> Answer {
    (Token(token), Err(reason))
}

#[test]
fn a_repeated_command_is_answered_with_the_first_response() {
    let (mut log, session) = Log::with_session();
    assert!(log.command(session, 1, 1));
    log.results();
    assert!(!log.command(session, 1, 1) && !log.command(session, 1, 1));
    assert_eq!(log.answers(), [first(3, 2), first(4, 2)]);
}

#[test]
fn a_repetition_waits_for_the_first_ones_result() {
    let (mut log, session) = Log::with_session();
    assert!(log.command(session, 1, 1) && log.command(session, 2, 1));
    assert!(!log.command(session, 2, 1));
    assert_eq!(log.answers(), [], "the host has not said yet");
    // By then the client has it: another attempt was answered. This one is from before that, and is owed its answer all the same.
    assert!(log.command(session, 3, 3));
    log.results();
    assert_eq!(log.answers(), [first(4, 3)]);
}

#[test]
fn commands_may_come_in_any_order_and_each_is_carried_out_once() {
    let (mut log, session) = Log::with_session();
    let order = [3, 1, 64, 3, 2, 64, 1, 2];
    let carried_out: Vec<_> = order.into_iter().filter(|sequence| log.command(session, *sequence, 1)).collect();
    assert_eq!(carried_out, [3, 1, 64, 2]);
}

#[test]
fn what_is_acknowledged_is_never_carried_out_later() {
    let (mut log, session) = Log::with_session();
    assert!(log.command(session, 1, 1) && log.command(session, 5, 5));
    log.results();
    assert!(!log.command(session, 1, 1), "its response is dropped");
    assert!(!log.command(session, 4, 1), "it was late, and the client has given it up");
    assert_eq!(log.answers(), [refused(4, Rejection::ResponseDropped), refused(5, Rejection::ResponseDropped)]);
    assert_eq!(log.sessions.image().expect("no result is outstanding").responses.len(), 1);
}

#[test]
fn commands_without_an_acknowledged_response_are_bounded() {
    let (mut log, session) = Log::with_session();
    assert!((1..=64).all(|sequence| log.command(session, sequence, 1)));
    assert!(!log.command(session, 65, 1));
    assert_eq!(log.answers(), [refused(66, Rejection::SessionFull)]);
    assert!(log.command(session, 65, 2), "it was not carried out, and there is room now");
    assert!(!log.command(session, 2, 2) && !log.command(session, 64, 2), "the others were");
    assert!(log.command(session, u64::MAX >> 2, u64::MAX >> 2), "whatever a client says, it harms itself alone");
}

#[test]
fn a_session_ends_after_its_silence_and_a_sign_of_life_prolongs_it() {
    let mut log = Log::default();
    let session = log.open_for(5_000);
    log.time = LogTime(4_999);
    log.change(SessionChange::KeepAlive { session, acknowledged: 1 }).expect("it is there");
    log.time = LogTime(9_998);
    assert!(log.command(session, 1, 1));
    log.time = LogTime(14_998);
    assert!(!log.command(session, 1, 1));
    assert_eq!(log.answers(), [refused(4, Rejection::SessionExpired)], "even a command that was carried out");
    log.results();
    assert_eq!(log.sessions.image().expect("no result is outstanding").responses, []);
}

#[test]
fn the_logs_time_never_goes_back() {
    let mut log = Log { time: LogTime(10_000), ..Log::default() };
    let session = log.open_for(1_000);
    log.time = LogTime(3_000);
    assert!(log.command(session, 1, 1));
    log.time = LogTime(10_999);
    assert!(log.command(session, 2, 1), "its time counts from 10,000");
}

#[test]
fn a_session_is_named_once_and_ends_when_it_is_closed() {
    let (mut log, session) = Log::with_session();
    let other = log.change(SessionChange::Open { timeout_ms: HOUR_MS }).expect("there is room");
    assert_eq!((session, other), (SessionId(1), (LogIndex(2), Payload::new())));
    log.change(SessionChange::Close { session }).expect("it is there");
    for change in [SessionChange::Close { session }, SessionChange::KeepAlive { session, acknowledged: 1 }] {
        assert_eq!(log.change(change), Err(Rejection::SessionExpired), "{change:?}");
    }
    assert!(!log.command(session, 1, 1));
    assert_eq!(log.sessions.len(), 1);
}

#[test]
fn the_session_that_would_end_next_gives_way_when_there_are_too_many() {
    let (mut log, oldest) = Log::with_session();
    let sessions: Vec<_> = (1..MAX_SESSIONS).map(|_| log.open_for(HOUR_MS)).collect();
    assert_eq!(log.sessions.len(), MAX_SESSIONS);
    log.time = LogTime(1);
    assert!(log.command(oldest, 1, 1), "a sign of life");
    log.open_for(HOUR_MS);
    assert_eq!(log.sessions.len(), MAX_SESSIONS);
    assert!(log.command(oldest, 2, 1) && log.command(sessions[1], 1, 1) && !log.command(sessions[0], 1, 1));
}

#[test]
fn a_time_out_out_of_range_is_the_nearest_in_it() {
    let mut log = Log::default();
    let (short, long) = (log.open_for(0), log.open_for(u64::MAX));
    log.time = LogTime(999);
    assert!(log.command(short, 1, 1));
    log.time = LogTime(24 * HOUR_MS - 1);
    assert!(log.command(long, 1, 1) && !log.command(short, 2, 1));
    log.time = LogTime(48 * HOUR_MS - 1);
    assert!(!log.command(long, 2, 1));
}

/// What is kept is the same on all nodes, whenever their hosts give results: here the bound of bytes is met while an acknowledgement waits.
#[test]
fn what_is_kept_does_not_depend_on_when_results_come() {
    let run = |at_once: bool| {
        let (mut log, session) = Log::with_session();
        let large = |index| Applied { index, result: vec![7; 3 << 20].into() };
        for sequence in 1..=3 {
            // The third command comes with the acknowledgement of the first, which makes room for its own response and comes too late for the second's.
            log.command(session, sequence, if sequence == 3 { 2 } else { 1 });
            if at_once {
                let index = log.open.pop().expect("it was carried out");
                log.sessions.applied(vec![large(index)]).expect("it is waited for");
            }
        }
        log.sessions.applied(log.open.iter().map(|index| large(*index)).collect()).expect("they are waited for");
        log.sessions.image().expect("no result is outstanding")
    };
    let image = run(true);
    assert_eq!(image.responses.iter().map(|(_, sequence, _)| *sequence).collect::<Vec<_>>(), [3]);
    assert_eq!(run(false), image);
}

#[test]
fn a_response_without_room_is_gone_and_its_command_is_not_carried_out_again() {
    let (mut log, session) = Log::with_session();
    for sequence in 1..=3 {
        log.command(session, sequence, 1);
    }
    let sizes = [3 << 20, 2 << 20, 64];
    let results = log.open.drain(..).zip(sizes).map(|(index, size)| Applied { index, result: vec![7; size].into() }).collect();
    log.sessions.applied(results).expect("they are waited for");
    for sequence in 1..=3 {
        assert!(!log.command(session, sequence, 1));
    }
    let kept: Vec<_> = log.answers().into_iter().map(|(_, answer)| answer.map(|(_, result)| result.len())).collect();
    assert_eq!(kept, [Ok(3 << 20), Err(Rejection::ResponseDropped), Ok(64)], "a small one has room in any case");
}

#[test]
fn a_result_that_nobody_waits_for_is_refused() {
    let (mut log, session) = Log::with_session();
    log.command(session, 1, 1);
    log.command(session, 2, 1);
    let applied = |index| Applied { index: LogIndex(index), result: Payload::new() };
    assert_eq!(log.sessions.applied(vec![applied(3)]), Err(LogIndex(3)), "not before that of entry 2");
    assert_eq!(log.sessions.applied(vec![applied(2), applied(3), applied(3)]), Err(LogIndex(3)), "not twice");
}

#[test]
fn an_image_gives_the_same_sessions_again() {
    let (mut log, session) = Log::with_session();
    log.open_for(2_000);
    log.time = LogTime(500);
    for (sequence, acknowledged) in [(1, 1), (2, 1), (4, 2)] {
        log.command(session, sequence, acknowledged);
    }
    assert_eq!(log.sessions.image(), None, "results are outstanding");
    log.results();
    let image = log.sessions.image().expect("all have come");
    let bytes = postcard::to_allocvec(&image).expect("plain data");
    let decoded: SessionImage = postcard::from_bytes(&bytes).expect("it was just encoded");
    log.sessions = Sessions::from_image(decoded).expect("a node had them");
    assert_eq!(log.sessions.image(), Some(image));
    assert!(!log.command(session, 4, 2) && log.command(session, 3, 2));
    assert_eq!(log.answers(), [first(6, 5)]);
    log.time = LogTime(2_000);
    log.command(session, 5, 2);
    assert_eq!(log.sessions.len(), 1, "the other has expired");
}

#[test]
fn an_image_that_no_node_has_is_refused() {
    let (mut log, session) = Log::with_session();
    log.command(session, 1, 1);
    log.results();
    let image = log.sessions.image().expect("all have come");
    let broken: [fn(&mut SessionImage); 5] = [
        |image| image.sessions.push(image.sessions[0].clone()),
        |image| image.responses.push(image.responses[0].clone()),
        |image| image.responses[0].1 = 2,
        |image| image.sessions.clear(),
        |image| image.time = LogTime(u64::MAX),
    ];
    for (number, break_it) in broken.into_iter().enumerate() {
        let mut image = image.clone();
        break_it(&mut image);
        Sessions::from_image(image).expect_err(&number.to_string());
    }
}

#[test]
fn stamps_of_a_run_leave_a_window_of_open_commands() {
    let stamp = SessionStamp { session: SessionId(1), sequence: 60, acknowledged: 58 };
    assert_eq!((stamp.later(0), stamp.later(5).sequence, stamp.later(5).acknowledged), (stamp, 65, 58));
    let far = stamp.later(100);
    assert_eq!((far.sequence, far.acknowledged), (160, 97), "160 is the 64th from there");
}
