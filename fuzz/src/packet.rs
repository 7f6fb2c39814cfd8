//! Socket.IO packets, and the chat's commands in them.

use bytes::Bytes;
use minitalk::wire::events::{Command, Event};
use minitalk::wire::frame;
use minitalk::wire::socketio::{
    Arguments, Kind, MAX_ATTACHMENTS, Packet, attachments_fit, decode, is_event_name, write,
};
use serde_json::Value;

/// Bytes of a sentence for a client, at most, whatever it has sent.
const SENTENCE_BYTES: usize = 400;

/// Reads the bytes as a packet, and as the data of one.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(packet) = decode(text) {
        read_back(text, &packet);
        array(packet.data);
    }
    array(text);
}

fn read_back(text: &str, packet: &Packet<'_>) {
    assert!(text.ends_with(packet.data) && packet.attachments <= MAX_ATTACHMENTS);
    assert!(packet.namespace.starts_with('/') && !packet.namespace.contains([',', '?']));
    let attachments = vec![Bytes::from_static(b"?"); packet.attachments.into()];
    let mut frames = Vec::new();
    match (packet.kind, packet.id) {
        (Kind::Event, id) => write::event(packet.namespace, id, packet.data, &attachments, &mut frames),
        (Kind::Ack, Some(id)) => write::ack(packet.namespace, id, packet.data, &attachments, &mut frames),
        _ => return,
    }
    let mut written = frame::written(&frames);
    let first = written.next().map(|(_, payload)| payload).unwrap_or_default();
    let first = std::str::from_utf8(first).unwrap_or_default();
    assert_eq!(first.strip_prefix('4').map(decode), Some(Ok(packet.clone())));
    assert_eq!(written.count(), attachments.len());
}

fn array(data: &str) {
    if data.contains("$serde_json") {
        return; // The library's own mark: a tree is something else than its text then.
    }
    let value = serde_json::from_str::<Value>(data).ok();
    for attachments in [0, 1, 3, usize::from(MAX_ATTACHMENTS)] {
        let fit = value.as_ref().is_some_and(|value| model_fit(value, attachments));
        // A field that comes twice may hide a misfit from the model.
        assert!(fit || !attachments_fit(data, attachments), "{attachments} attachments");
        let plain = value.as_ref().map(Value::to_string).unwrap_or_default();
        assert_eq!(attachments_fit(&plain, attachments), fit, "{attachments} attachments");
    }
    let (event, arguments) = (Event::parse(data), Arguments::event(data));
    assert_eq!(event.as_ref().map(|event| &event.name), arguments.as_ref().map(|(name, _)| name));
    let Some((event, (name, rest))) = event.zip(arguments) else {
        return;
    };
    assert!(is_event_name(&name));
    let again = rest.text(&["\"name\""]);
    assert_eq!(Arguments::event(&again).map(|(_, rest)| rest.0.len()), Some(rest.0.len()));
    let argument = value.as_ref().and_then(|value| value.get(1));
    let text = |field: &str| argument?.get(field)?.as_str();
    match event.command() {
        Err(refusal) => assert!(refusal.message.len() <= SENTENCE_BYTES),
        Ok(_) if value.is_none() => {} // Something else in it is no JSON.
        Ok(Command::SendMessage(send)) => {
            assert_eq!((Some(&*send.room_id), Some(&*send.content)), (text("roomId"), text("content")));
            assert_eq!(send.client_id.as_deref(), text("clientId"));
            assert!(!send.room_id.is_empty() && !send.content.is_empty());
        }
        Ok(Command::JoinRoom(room) | Command::LeaveRoom(room) | Command::Typing(room)) => {
            assert_eq!(Some(&*room), text("roomId"));
            assert!(!room.is_empty());
        }
        Ok(Command::AuthRefresh(token)) => assert_eq!(Some(&*token), text("token")),
        Ok(Command::GetMessages(get)) => {
            assert_eq!(Some(&*get.room_id), text("roomId"));
            let number = |field: &str| argument?.get(field)?.as_u64();
            assert_eq!(
                (get.before, get.after, get.limit),
                (number("before"), number("after"), number("limit"))
            );
        }
    }
}

/// Whether every placeholder names an attachment, found the plain way.
fn model_fit(value: &Value, attachments: usize) -> bool {
    match value {
        Value::Array(elements) => elements.iter().all(|element| model_fit(element, attachments)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64);
            number.and_then(|number| usize::try_from(number).ok()).is_some_and(|number| number < attachments)
        }
        Value::Object(fields) => fields.values().all(|field| model_fit(field, attachments)),
        _ => true,
    }
}
