//! MQTT packets of versions 3.1.1 and 5 as one: what a terminal may send us, and what we answer.

use mqtt_protocol_core::mqtt::ArcPayload;
use mqtt_protocol_core::mqtt::Version;
use mqtt_protocol_core::mqtt::packet::{Packet, Qos, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, MqttError, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

/// Who wants to come in.
#[derive(Clone)]
pub struct Login {
    pub client_id: String,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Topic and payload to be taken as published when the connection breaks.
    pub will: Option<(String, Vec<u8>)>,
}

/// A publication as received.
#[derive(Clone)]
pub struct Publication {
    pub topic: String,
    pub payload: ArcPayload,
    pub receipt: Receipt,
}

/// What the client waits for after a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// QoS 0.
    None,
    /// QoS 1: PUBACK.
    Ack(u16),
    /// QoS 2: PUBREC, then PUBCOMP for its PUBREL.
    Rec(u16),
}

/// A packet from a client.
pub enum Received {
    Connect(Login),
    Publish(Publication),
    Subscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Pubrel {
        packet_id: u16,
    },
    Disconnect,
    /// Nothing to do: the library has answered it, or it is an answer.
    Other,
}

impl Received {
    /// Reads a packet of either version.
    pub fn of(packet: Packet) -> Received {
        match packet {
            Packet::V3_1_1Connect(p) => Received::Connect(Login {
                client_id: p.client_id().to_owned(),
                user_name: p.user_name().map(str::to_owned),
                password: p.password().map(<[u8]>::to_vec),
                will: p.will_topic().zip(p.will_payload()).map(|(topic, payload)| (topic.to_owned(), payload.to_vec())),
            }),
            Packet::V5_0Connect(p) => Received::Connect(Login {
                client_id: p.client_id().to_owned(),
                user_name: p.user_name().map(str::to_owned),
                password: p.password().map(<[u8]>::to_vec),
                will: p.will_topic().zip(p.will_payload()).map(|(topic, payload)| (topic.to_owned(), payload.to_vec())),
            }),
            Packet::V3_1_1Publish(p) => publish(p.topic_name(), p.payload(), p.qos(), p.packet_id()),
            Packet::V5_0Publish(p) => publish(p.topic_name(), p.payload(), p.qos(), p.packet_id()),
            Packet::V3_1_1Subscribe(p) => Received::Subscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|entry| entry.topic_filter().to_owned()).collect(),
            },
            Packet::V5_0Subscribe(p) => Received::Subscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|entry| entry.topic_filter().to_owned()).collect(),
            },
            Packet::V3_1_1Unsubscribe(p) => Received::Unsubscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V5_0Unsubscribe(p) => Received::Unsubscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V3_1_1Pubrel(p) => Received::Pubrel { packet_id: p.packet_id() },
            Packet::V5_0Pubrel(p) => Received::Pubrel { packet_id: p.packet_id() },
            Packet::V3_1_1Disconnect(_) | Packet::V5_0Disconnect(_) => Received::Disconnect,
            _ => Received::Other,
        }
    }
}

fn publish(topic: &str, payload: &ArcPayload, qos: Qos, packet_id: Option<u16>) -> Received {
    let receipt = match (qos, packet_id) {
        (Qos::AtLeastOnce, Some(id)) => Receipt::Ack(id),
        (Qos::ExactlyOnce, Some(id)) => Receipt::Rec(id),
        (Qos::AtMostOnce, _) | (_, None) => Receipt::None,
    };
    Received::Publish(Publication { topic: topic.to_owned(), payload: payload.clone(), receipt })
}

/// The packet id of the QoS 2 publication that a packet for the client acknowledges.
pub fn acknowledged(packet: &Packet) -> Option<u16> {
    match packet {
        Packet::V3_1_1Pubrec(p) => Some(p.packet_id()),
        Packet::V5_0Pubrec(p) => Some(p.packet_id()),
        _ => None,
    }
}

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client id cannot be a terminal's serial.
    ClientId,
    /// Wrong or missing password, or a user name that is not the serial.
    Credentials,
    /// Too many connections or too many unknown terminals.
    Busy,
}

/// A packet for the client.
pub enum Reply {
    Connack(Result<(), Refusal>),
    /// True for each granted filter.
    Suback {
        packet_id: u16,
        granted: Vec<bool>,
    },
    Unsuback {
        packet_id: u16,
        count: usize,
    },
    Puback {
        packet_id: u16,
    },
    Pubrec {
        packet_id: u16,
    },
    Pubcomp {
        packet_id: u16,
    },
    Publish {
        topic: String,
        payload: Vec<u8>,
    },
}

impl Reply {
    /// The packet in the client's version.
    pub fn packet(self, version: Version) -> Result<Packet, MqttError> {
        match version {
            Version::V5_0 => self.packet_v5(),
            Version::V3_1_1 | Version::Undetermined => self.packet_v3(),
        }
    }

    fn packet_v3(self) -> Result<Packet, MqttError> {
        Ok(match self {
            Reply::Connack(outcome) => {
                let code = match outcome {
                    Ok(()) => ConnectReturnCode::Accepted,
                    Err(Refusal::ClientId) => ConnectReturnCode::IdentifierRejected,
                    Err(Refusal::Credentials) => ConnectReturnCode::NotAuthorized,
                    Err(Refusal::Busy) => ConnectReturnCode::ServerUnavailable,
                };
                v3_1_1::Connack::builder().session_present(false).return_code(code).build()?.into()
            }
            Reply::Suback { packet_id, granted } => {
                let code = |granted| match granted {
                    true => SubackReturnCode::SuccessMaximumQos0,
                    false => SubackReturnCode::Failure,
                };
                let codes = granted.into_iter().map(code).collect();
                v3_1_1::Suback::builder().packet_id(packet_id).return_codes(codes).build()?.into()
            }
            Reply::Unsuback { packet_id, .. } => v3_1_1::Unsuback::builder().packet_id(packet_id).build()?.into(),
            Reply::Puback { packet_id } => v3_1_1::Puback::builder().packet_id(packet_id).build()?.into(),
            Reply::Pubrec { packet_id } => v3_1_1::Pubrec::builder().packet_id(packet_id).build()?.into(),
            Reply::Pubcomp { packet_id } => v3_1_1::Pubcomp::builder().packet_id(packet_id).build()?.into(),
            Reply::Publish { topic, payload } => {
                v3_1_1::Publish::builder().topic_name(topic)?.qos(Qos::AtMostOnce).payload(payload).build()?.into()
            }
        })
    }

    fn packet_v5(self) -> Result<Packet, MqttError> {
        Ok(match self {
            Reply::Connack(outcome) => {
                let code = match outcome {
                    Ok(()) => ConnectReasonCode::Success,
                    Err(Refusal::ClientId) => ConnectReasonCode::ClientIdentifierNotValid,
                    Err(Refusal::Credentials) => ConnectReasonCode::NotAuthorized,
                    Err(Refusal::Busy) => ConnectReasonCode::ServerBusy,
                };
                v5_0::Connack::builder().session_present(false).reason_code(code).build()?.into()
            }
            Reply::Suback { packet_id, granted } => {
                let code = |granted| match granted {
                    true => SubackReasonCode::GrantedQos0,
                    false => SubackReasonCode::NotAuthorized,
                };
                let codes = granted.into_iter().map(code).collect();
                v5_0::Suback::builder().packet_id(packet_id).reason_codes(codes).build()?.into()
            }
            Reply::Unsuback { packet_id, count } => {
                let codes = vec![UnsubackReasonCode::Success; count];
                v5_0::Unsuback::builder().packet_id(packet_id).reason_codes(codes).build()?.into()
            }
            Reply::Puback { packet_id } => v5_0::Puback::builder().packet_id(packet_id).build()?.into(),
            Reply::Pubrec { packet_id } => v5_0::Pubrec::builder().packet_id(packet_id).build()?.into(),
            Reply::Pubcomp { packet_id } => v5_0::Pubcomp::builder().packet_id(packet_id).build()?.into(),
            Reply::Publish { topic, payload } => {
                v5_0::Publish::builder().topic_name(topic)?.qos(Qos::AtMostOnce).payload(payload).build()?.into()
            }
        })
    }
}
