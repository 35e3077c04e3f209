use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::control_socket::{Done, Failed};

/// A service whose conversations are played by a test.
fn connect(play: impl Fn(Request, &mut Channel) + Send + Sync + 'static) -> Connect {
    let play = Arc::new(play);
    Arc::new(move || {
        let (ours, theirs) = UnixStream::pair()?;
        let play = Arc::clone(&play);
        thread::spawn(move || {
            let mut channel = Channel::new(ours);
            while let Ok(request) = channel.receive() {
                play(request, &mut channel);
            }
        });
        Ok(theirs)
    })
}

/// The bridge's end of a talk with such a service.
fn bridge(connect: Connect) -> Channel {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::spawn(move || talk(&ours, &connect));
    theirs
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    Channel::new(theirs)
}

fn answer(bridge: &mut Channel) -> (u64, Answer) {
    loop {
        if let News::Answer { id, answer } = bridge.receive().unwrap() {
            return (id, answer);
        }
    }
}

fn hold(channel: &mut Channel) {
    let _ = channel.receive::<Request>();
}

#[test]
fn an_update_is_answered_when_it_has_begun() {
    let (told, seen): (Sender<Request>, _) = channel();
    let told = Mutex::new(told);
    let mut bridge = bridge(connect(move |request, channel| {
        told.lock().unwrap().send(request.clone()).unwrap();
        if request == Request::Watch {
            return hold(channel);
        }
        let status = Reply::Status(Status::default());
        channel.send(&status, None).unwrap();
        // The update goes on; nobody hears of its end.
        hold(channel);
    }));
    let call = Call {
        id: 7,
        verb: Verb::Attempt,
    };
    bridge.send(&call, None).unwrap();
    assert_eq!(answer(&mut bridge), (7, Ok(String::new())));
    let requests: Vec<_> = seen.try_iter().collect();
    assert!(requests.contains(&Request::Update(Wish::default())));
}

#[test]
fn what_the_service_refuses_is_told_with_its_code() {
    let mut bridge = bridge(connect(|request, channel| {
        let reply = match request {
            Request::Watch => return hold(channel),
            Request::Rollback => Reply::Done(Done {
                text: "done".into(),
                ..Done::default()
            }),
            _ => Reply::Failed(Failed {
                exit: 5,
                text: "busy".into(),
            }),
        };
        channel.send(&reply, None).unwrap();
    }));
    for (verb, expected) in [
        (Verb::Attempt, Err((5, "busy".to_owned()))),
        (Verb::Cancel, Err((5, "busy".to_owned()))),
        (Verb::Rollback, Ok("done".to_owned())),
    ] {
        bridge.send(&Call { id: 1, verb }, None).unwrap();
        assert_eq!(answer(&mut bridge), (1, expected), "{verb:?}");
    }
}

#[test]
fn a_bridge_that_calls_without_end_is_busy_and_one_that_babbles_is_ended() {
    let mut flooded = bridge(connect(|_, channel| hold(channel)));
    let verb = Verb::Check;
    for id in 0..=CALLS as u64 {
        flooded.send(&Call { id, verb }, None).unwrap();
    }
    let (_, refused) = answer(&mut flooded);
    assert_eq!(refused.unwrap_err().0, 5);

    let mut babbling = bridge(connect(|_, channel| hold(channel)));
    babbling.send(&"become root", None).unwrap();
    match babbling.receive::<News>() {
        Err(LineError::Io(error)) => assert!(!is_timeout(&error), "{error}"),
        Err(_) => {}
        Ok(news) => panic!("{news:?}"),
    }
}

#[test]
fn the_last_of_many_counts_is_told_too() {
    let mut bridge = bridge(connect(|_, channel| {
        for done in 0..100 {
            let status = Status {
                done,
                total: 100,
                ..Status::default()
            };
            channel.send(&Reply::Status(status), None).unwrap();
        }
        hold(channel);
    }));
    let mut told = Vec::new();
    while told.last() != Some(&99) {
        match bridge.receive().unwrap() {
            News::Status(status) => told.push(status.done),
            News::Answer { .. } => panic!("unasked"),
        }
    }
    assert!(told.len() < 50, "{told:?}");
}

#[test]
fn the_file_of_a_bus_is_in_its_address() {
    let socket = |address: &str| socket_of(Some(address.into()));
    assert_eq!(socket_of(None), Some(SOCKET.into()));
    assert_eq!(socket("unix:path=/a b"), Some("/a b".into()));
    for other in [
        "",
        "unix:abstract=/a",
        "unix:path=/a;tcp:host=h",
        "unix:path=/%61",
        "unix:path=/a,guid=1",
    ] {
        assert_eq!(socket(other), None, "{other}");
    }
}

/// It has one of the few places of those who act.
#[test]
fn a_bridge_that_has_gone_keeps_no_conversation_with_the_service() {
    let (told, ended) = channel();
    let told = Mutex::new(told);
    let mut bridge = bridge(connect(move |_, channel| {
        let status = Reply::Status(Status::default());
        channel.send(&status, None).unwrap();
        hold(channel);
        told.lock().unwrap().send(()).unwrap();
    }));
    bridge.receive::<News>().unwrap();
    drop(bridge);
    ended.recv_timeout(Duration::from_secs(60)).unwrap();
}
