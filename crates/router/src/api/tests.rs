use serde_json::json;

use super::*;

fn parse(text: &str) -> Result<Request, ErrorBody> {
    Request::parse(text.as_bytes())
}

#[test]
fn requests_are_read_as_they_are_written() {
    let filter = SessionFilter {
        service: Some("web".into()),
        protocol: ProtocolName::parse("tcp"),
        source: Some("10.0.0.0/8".parse().unwrap()),
        port: Some(443),
        ..SessionFilter::default()
    };
    let lookup = LookupQuery {
        tenant: Some("corp".into()),
        interface: None,
        from: "10.0.0.1".parse().unwrap(),
        to: "2001:db8::1".parse().unwrap(),
        protocol: ProtocolName::parse("47").unwrap(),
        port: 0,
    };
    let query = SessionQuery { filter: filter.clone(), cursor: Some(7), limit: Some(10) };
    for request in [
        Request::Show(Show::Status(Nothing {})),
        Request::Show(Show::Sessions(query.clone())),
        Request::Show(Show::Flows(query)),
        Request::Show(Show::Fib(FibQuery::default())),
        Request::Show(Show::Peers(Nothing {})),
        Request::Show(Show::Interfaces(Nothing {})),
        Request::Show(Show::Waypoints(Nothing {})),
        Request::Show(Show::Workers(Nothing {})),
        Request::Show(Show::Counters(Nothing {})),
        Request::Show(Show::Drops(Nothing {})),
        Request::Show(Show::Lookup(lookup)),
        Request::Delete(Delete { sessions: filter, all: false }),
        Request::Reload(Nothing {}),
        Request::Capture(CaptureRequest { interfaces: vec!["wan".into()], ..CaptureRequest::default() }),
    ] {
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(parse(&line), Ok(request), "{line}");
    }
    assert_eq!(parse(r#"{"reload":{}}"#), Ok(Request::Reload(Nothing {})));
}

#[test]
fn an_error_names_the_field() {
    for (text, named) in [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "exactly one member"),
        (r#"{"show":{"what":"status"},"reload":{}}"#, "exactly one member"),
        (r#"{"sow":{}}"#, "`sow`"),
        (r#"{"show":{}}"#, "`show.what` is missing"),
        (r#"{"show":{"what":7}}"#, "`show.what` is no string"),
        (r#"{"show":{"what":"sesions"}}"#, "`sesions`"),
        (r#"{"show":{"what":"status","deep":1}}"#, "deep"),
        (r#"{"show":{"what":"sessions","limit":-1}}"#, "`show.limit`"),
        (r#"{"show":{"what":"sessions","filter":{"port":70000}}}"#, "`show.filter.port`"),
        (r#"{"show":{"what":"sessions","filter":{"sauce":"a"}}}"#, "sauce"),
        (r#"{"show":{"what":"sessions","filter":{"source":"10.0.0.0/33"}}}"#, "`show.filter.source`"),
        (r#"{"show":{"what":"sessions","filter":{"protocol":"tpc"}}}"#, "`tpc`"),
        (r#"{"show":{"what":"lookup","to":"10.0.0.1","protocol":"tcp"}}"#, "`from`"),
        (r#"{"delete":{}}"#, "`sessions`"),
        (r#"{"reload":[1]}"#, "`reload"),
        (r#"{"capture":{"interfaces":"wan"}}"#, "`capture.interfaces`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.message.contains(named), "{text}: {}", error.message);
        assert!(!error.fix.is_empty());
    }
}

#[test]
fn a_bare_address_is_a_whole_prefix() {
    let Ok(Request::Delete(delete)) = parse(r#"{"delete":{"sessions":{"source":"10.1.2.3"}}}"#) else {
        panic!()
    };
    assert_eq!(delete.sessions.source, Some("10.1.2.3/32".parse().unwrap()));
    assert!(!delete.sessions.is_empty());
}

#[test]
fn a_packet_survives_its_hexadecimal() {
    let packet = Packet {
        interface: 1,
        sent: true,
        timestamp_nanoseconds: 5,
        length_bytes: 3,
        data: vec![0, 0xAB, 0xFF],
    };
    let value = serde_json::to_value(Response::Packet(packet.clone())).unwrap();
    assert_eq!(value["packet"]["data"], json!("00abff"));
    assert_eq!(serde_json::from_value::<Response>(value).unwrap(), Response::Packet(packet));
    for broken in ["0", "0g", "+1"] {
        let value = json!({"packet": {"interface": 0, "sent": false, "timestamp_nanoseconds": 0, "length_bytes": 0, "data": broken}});
        assert!(serde_json::from_value::<Response>(value).is_err(), "{broken}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = Request::parse(&bytes);
    }
}
