package sidecar

import (
	"fmt"
	"strings"
	"time"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// Direction says who opened a connection.
type Direction int32

// The directions; unspecified when not connected.
const (
	DirectionUnspecified = Direction(sidecarv1.Direction_DIRECTION_UNSPECIFIED)
	DirectionInbound     = Direction(sidecarv1.Direction_DIRECTION_INBOUND)
	DirectionOutbound    = Direction(sidecarv1.Direction_DIRECTION_OUTBOUND)
)

// String is the API's name without its prefix: INBOUND.
func (d Direction) String() string {
	return strings.TrimPrefix(sidecarv1.Direction(d).String(), "DIRECTION_")
}

// PeerPath says how a peer is reached.
type PeerPath int32

// The paths; unspecified when not connected, and of an earlier sidecar.
const (
	PathUnspecified = PeerPath(sidecarv1.PeerPath_PEER_PATH_UNSPECIFIED)
	PathDirect      = PeerPath(sidecarv1.PeerPath_PEER_PATH_DIRECT)
	// PathRelayed: through a relay that carries as much as there is.
	PathRelayed = PeerPath(sidecarv1.PeerPath_PEER_PATH_RELAYED)
	// PathRelayedLimited: through one that ends connections soon; neither gossip nor the DHT go there.
	PathRelayedLimited = PeerPath(sidecarv1.PeerPath_PEER_PATH_RELAYED_LIMITED)
)

// String is the API's name without its prefix: DIRECT.
func (p PeerPath) String() string {
	return strings.TrimPrefix(sidecarv1.PeerPath(p).String(), "PEER_PATH_")
}

// AddressOrigin says who told an address of a peer.
type AddressOrigin int32

// The origins.
const (
	OriginUnspecified = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_UNSPECIFIED)
	// OriginBootstrap: the configuration.
	OriginBootstrap = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_BOOTSTRAP)
	// OriginApp: an app, which had it dialled.
	OriginApp = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_APP)
	// OriginMDNS: the peer, on the local network.
	OriginMDNS = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_MDNS)
	// OriginPeerRecord: the peer, in a record that it has signed.
	OriginPeerRecord = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_PEER_RECORD)
	// OriginIdentify: the peer, unsigned.
	OriginIdentify = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_IDENTIFY)
	// OriginConnection: this is where a connection led.
	OriginConnection = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_CONNECTION)
	// OriginPeerExchange: another peer, which had no more room in its mesh.
	OriginPeerExchange = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_PEER_EXCHANGE)
	// OriginRelay: an address of some other peer, who has this one for a relay.
	OriginRelay = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_RELAY)
	// OriginDHT: another peer, in an answer of the DHT.
	OriginDHT = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_DHT)
	// OriginMemory: an earlier run of the sidecar.
	OriginMemory = AddressOrigin(sidecarv1.AddressOrigin_ADDRESS_ORIGIN_MEMORY)
)

// String is the API's name without its prefix: PEER_RECORD.
func (o AddressOrigin) String() string {
	return strings.TrimPrefix(sidecarv1.AddressOrigin(o).String(), "ADDRESS_ORIGIN_")
}

// PeerEventType says what happened to a peer.
type PeerEventType int32

// What can happen to a peer.
const (
	PeerEventUnspecified = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_UNSPECIFIED)
	// PeerPresent: connected already when the present state is told.
	PeerPresent = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_PRESENT)
	// PeersCurrent: the present state has been told in full. This event has no peer.
	PeersCurrent     = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_CURRENT)
	PeerConnected    = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_CONNECTED)
	PeerIdentified   = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_IDENTIFIED)
	PeerUpdated      = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_UPDATED)
	PeerDisconnected = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_DISCONNECTED)
	// PeerScored: its score has passed a threshold, so that it has another standing.
	PeerScored = PeerEventType(sidecarv1.PeerEventType_PEER_EVENT_TYPE_SCORED)
	// PeersReconnected: the sidecar was gone, and events may have been missed. The present state follows anew: forget
	// what you knew. This event has no peer.
	PeersReconnected PeerEventType = 100
	// PeersLagged: this reader was too slow, and events were lost. The present state follows anew, as above.
	PeersLagged PeerEventType = 101
)

// String is the API's name without its prefix: CONNECTED.
func (t PeerEventType) String() string {
	switch t {
	case PeersReconnected:
		return "RECONNECTED"
	case PeersLagged:
		return "LAGGED"
	}
	return strings.TrimPrefix(sidecarv1.PeerEventType(t).String(), "PEER_EVENT_TYPE_")
}

// SendOutcome says what became of a direct message.
type SendOutcome int32

// What can become of a direct message.
const (
	SendUnspecified = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_UNSPECIFIED)
	// SendDelivered: written to the stream of a receiving app there.
	SendDelivered       = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_DELIVERED)
	SendNoSubscriber    = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_NO_SUBSCRIBER)
	SendLocalQueueFull  = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_LOCAL_QUEUE_FULL)
	SendRemoteQueueFull = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_REMOTE_QUEUE_FULL)
	SendUnreachable     = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_UNREACHABLE)
	SendRefused         = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_REFUSED)
	SendTooLarge        = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_TOO_LARGE)
	// SendTimedOut: sent, no receipt in time; it may have arrived.
	SendTimedOut = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_TIMED_OUT)
	// SendUnknown: sent, and the connection was lost; it may have arrived.
	SendUnknown = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_UNKNOWN)
	// SendStored: durable, and on the sidecar's disk.
	SendStored = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_STORED)
	// SendOutboxFull: durable, and not stored: a bound of the outbox is reached.
	SendOutboxFull = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_OUTBOX_FULL)
	// SendNotStored: durable, and not stored: the sidecar's disk refuses.
	SendNotStored = SendOutcome(sidecarv1.SendOutcome_SEND_OUTCOME_NOT_STORED)
)

// String is the API's name without its prefix: DELIVERED.
func (o SendOutcome) String() string {
	return strings.TrimPrefix(sidecarv1.SendOutcome(o).String(), "SEND_OUTCOME_")
}

// PublishOutcome says what became of a published message.
type PublishOutcome int32

// What can become of a published message.
const (
	PublishUnspecified = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_UNSPECIFIED)
	// PublishSent: queued to at least one peer.
	PublishSent = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_SENT)
	// PublishNoPeers: no peer of the topic is connected; subscribers at this node have got it.
	PublishNoPeers   = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_NO_PEERS)
	PublishQueueFull = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_QUEUE_FULL)
	PublishTooLarge  = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_TOO_LARGE)
	PublishDuplicate = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_DUPLICATE)
	// PublishRejected: a rule of the topic, or an app that judges its messages, did not accept it.
	PublishRejected = PublishOutcome(sidecarv1.PublishOutcome_PUBLISH_OUTCOME_REJECTED)
)

// Verdict says what becomes of a message.
type Verdict int32

// What can become of a message.
const (
	// VerdictAccept: it is delivered, and passed on to peers.
	VerdictAccept = Verdict(sidecarv1.Verdict_VERDICT_ACCEPT)
	// VerdictReject: it is not, and it counts against the peers that sent it. For what no honest node passes on.
	VerdictReject = Verdict(sidecarv1.Verdict_VERDICT_REJECT)
	// VerdictIgnore: it is not, and nobody is to blame.
	VerdictIgnore = Verdict(sidecarv1.Verdict_VERDICT_IGNORE)
)

// String is the API's name without its prefix: ACCEPT.
func (v Verdict) String() string {
	return strings.TrimPrefix(sidecarv1.Verdict(v).String(), "VERDICT_")
}

// ValidationFallback says what becomes of a message for which there is no verdict in time, and of all while no app judges the
// topic.
type ValidationFallback int32

// What can become of them.
const (
	// FallbackUnspecified: as before, else as configured.
	FallbackUnspecified = ValidationFallback(sidecarv1.ValidationFallback_VALIDATION_FALLBACK_UNSPECIFIED)
	FallbackAccept      = ValidationFallback(sidecarv1.ValidationFallback_VALIDATION_FALLBACK_ACCEPT)
	FallbackIgnore      = ValidationFallback(sidecarv1.ValidationFallback_VALIDATION_FALLBACK_IGNORE)
	// FallbackHold: they wait for an app, without a deadline, as long as there is room.
	FallbackHold = ValidationFallback(sidecarv1.ValidationFallback_VALIDATION_FALLBACK_HOLD)
)

// String is the API's name without its prefix: HOLD.
func (f ValidationFallback) String() string {
	return strings.TrimPrefix(sidecarv1.ValidationFallback(f).String(), "VALIDATION_FALLBACK_")
}

// String is the API's name without its prefix: SENT.
func (o PublishOutcome) String() string {
	return strings.TrimPrefix(sidecarv1.PublishOutcome(o).String(), "PUBLISH_OUTCOME_")
}

// Signing says how messages of a topic prove where they come from; all its nodes must agree.
type Signing int32

// The ways of signing; unspecified: as in force for the topic here, else strict.
const (
	SigningUnspecified  = Signing(sidecarv1.Signing_SIGNING_UNSPECIFIED)
	SigningStrictSign   = Signing(sidecarv1.Signing_SIGNING_STRICT_SIGN)
	SigningStrictNoSign = Signing(sidecarv1.Signing_SIGNING_STRICT_NO_SIGN)
)

// String is the API's name without its prefix: STRICT_SIGN.
func (s Signing) String() string {
	return strings.TrimPrefix(sidecarv1.Signing(s).String(), "SIGNING_")
}

// Bundling says whether messages that are published together on a signed topic travel as one, under one signature. Each is
// judged and delivered by itself all the same.
type Bundling int32

// The choices; unspecified: as configured for the topic. Known: while all connected peers of the topic know bundles. Always:
// in any case; apps of other peers get each bundle as one message.
const (
	BundlingUnspecified = Bundling(sidecarv1.Bundling_BUNDLING_UNSPECIFIED)
	BundlingOff         = Bundling(sidecarv1.Bundling_BUNDLING_OFF)
	BundlingKnown       = Bundling(sidecarv1.Bundling_BUNDLING_KNOWN)
	BundlingAlways      = Bundling(sidecarv1.Bundling_BUNDLING_ALWAYS)
)

// String is the API's name without its prefix: ALWAYS.
func (b Bundling) String() string {
	return strings.TrimPrefix(sidecarv1.Bundling(b).String(), "BUNDLING_")
}

// HistoryState says whether a topic's messages are kept on disk.
type HistoryState int32

// Whether they are.
const (
	// HistoryUnspecified is that they are not.
	HistoryUnspecified = HistoryState(sidecarv1.HistoryState_HISTORY_STATE_UNSPECIFIED)
	HistoryKept        = HistoryState(sidecarv1.HistoryState_HISTORY_STATE_KEPT)
	// HistoryRefused is that they should be, but the disk refuses or is too slow.
	HistoryRefused = HistoryState(sidecarv1.HistoryState_HISTORY_STATE_REFUSED)
)

// String is the schema's name without its prefix.
func (h HistoryState) String() string {
	return strings.TrimPrefix(sidecarv1.HistoryState(h).String(), "HISTORY_STATE_")
}

// OverflowPolicy says what becomes of messages when a subscription's queue in the sidecar is full.
type OverflowPolicy int32

// The policies; unspecified: the oldest are dropped.
const (
	OverflowUnspecified = OverflowPolicy(sidecarv1.OverflowPolicy_OVERFLOW_POLICY_UNSPECIFIED)
	OverflowDropOldest  = OverflowPolicy(sidecarv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST)
	OverflowDropNewest  = OverflowPolicy(sidecarv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST)
	// OverflowEndStream: what is queued is delivered, then the stream ends with ErrSlowReader.
	OverflowEndStream = OverflowPolicy(sidecarv1.OverflowPolicy_OVERFLOW_POLICY_END_STREAM)
)

// String is the API's name without its prefix: DROP_OLDEST.
func (p OverflowPolicy) String() string {
	return strings.TrimPrefix(sidecarv1.OverflowPolicy(p).String(), "OVERFLOW_POLICY_")
}

// LagReason says why messages were missed.
type LagReason int32

// Why messages can be missed.
const (
	LagUnspecified = LagReason(sidecarv1.LagReason_LAG_REASON_UNSPECIFIED)
	// LagSlowReader: the bounded queue in the sidecar overflowed.
	LagSlowReader = LagReason(sidecarv1.LagReason_LAG_REASON_SLOW_READER)
	// LagHistoryExceeded: the sidecar's history does not reach back so far.
	LagHistoryExceeded = LagReason(sidecarv1.LagReason_LAG_REASON_HISTORY_EXCEEDED)
	// LagRestarted: the sidecar has restarted.
	LagRestarted = LagReason(sidecarv1.LagReason_LAG_REASON_RESTARTED)
	// LagReconnected: the connection to the sidecar was lost, and messages that came meanwhile with it. Said by this
	// client for direct messages, which have no history.
	LagReconnected LagReason = 100
)

// String is the API's name without its prefix: SLOW_READER.
func (r LagReason) String() string {
	if r == LagReconnected {
		return "RECONNECTED"
	}
	return strings.TrimPrefix(sidecarv1.LagReason(r).String(), "LAG_REASON_")
}

// Lagged tells that a stream missed messages, just before what follows it.
type Lagged struct {
	// Missed says how many, where Known.
	Missed uint64
	// Known tells whether anybody knows how many.
	Known bool
	// Reason says why.
	Reason LagReason
}

// String is a sentence for a person.
func (l Lagged) String() string {
	count := "messages (how many is not known)"
	if l.Known {
		count = fmt.Sprintf("%d messages", l.Missed)
	}
	why := map[LagReason]string{
		LagSlowReader:      "this reader was too slow",
		LagHistoryExceeded: "the sidecar's history does not reach back so far",
		LagRestarted:       "the sidecar has restarted",
		LagReconnected:     "the connection to the sidecar was lost",
	}[l.Reason]
	if why == "" {
		why = "not said why"
	}
	if l.Reason == LagReconnected {
		return "may have missed messages: " + why
	}
	return fmt.Sprintf("missed %s: %s", count, why)
}

// Reachability says whether peers reach the node from outside, or an address of it.
type Reachability int32

// What can be known of it.
const (
	// ReachabilityUnspecified: of a sidecar that does not look.
	ReachabilityUnspecified = Reachability(sidecarv1.Reachability_REACHABILITY_UNSPECIFIED)
	// ReachabilityUnknown: nobody has found out.
	ReachabilityUnknown = Reachability(sidecarv1.Reachability_REACHABILITY_UNKNOWN)
	// ReachabilityConfirmed: peers have proved it.
	ReachabilityConfirmed = Reachability(sidecarv1.Reachability_REACHABILITY_CONFIRMED)
	// ReachabilityNotReachable: peers in several networks have dialled in vain.
	ReachabilityNotReachable = Reachability(sidecarv1.Reachability_REACHABILITY_NOT_REACHABLE)
)

// String is the API's name without its prefix: CONFIRMED.
func (r Reachability) String() string {
	return strings.TrimPrefix(sidecarv1.Reachability(r).String(), "REACHABILITY_")
}

// AddressReachability is an address of the node, and what peers have found of it.
type AddressReachability struct {
	Address      string
	Reachability Reachability
	// Source is "listening", "announced", "mapped" or "observed".
	Source string
	Since  time.Time
	// Proofs is how many networks of peers have reached it.
	Proofs uint32
	// Failures is how many say, later than these, that they do not.
	Failures uint32
}

// MappedPort is a port of the gateway that leads to a port of the node.
type MappedPort struct {
	Address string
	Port    uint32
	// ExpireTime is when the mapping ends unless it is renewed; zero where it has no end.
	ExpireTime time.Time
}

// PortMapping says what the gateway of the node's network does for it.
type PortMapping struct {
	// State is "off", "no gateway", "asking", "mapped", "refused" or "no answer"; empty of an earlier sidecar.
	State   string
	Message string
	Remedy  string
	Gateway string
	// Protocol is "pcp", "nat-pmp" or "upnp", and empty where nothing is mapped.
	Protocol string
	Ports    []MappedPort
}

// NodeInfo says who the node is and where.
type NodeInfo struct {
	PeerID             string
	Network            string
	Agent              string
	Version            string
	ListeningAddresses []string
	AnnouncedAddresses []string
	ObservedAddresses  []string
	StartTime          time.Time
	Uptime             time.Duration
	// APIEngine is what speaks gRPC to apps, "http2" or "grpcio"; empty of an earlier sidecar.
	APIEngine string
	// Reachability says whether peers reach the node from outside.
	Reachability Reachability
	// Addresses are those that peers were asked to dial.
	Addresses []AddressReachability
	// RelayedAddresses are those at which it is reached through relays.
	RelayedAddresses []string
	// PortMapping is what the gateway of its network does for it.
	PortMapping PortMapping
}

// Condition is one of the things that readiness is made of.
type Condition struct {
	Type    string
	Met     bool
	Reason  string
	Message string
	Remedy  string
	Since   time.Time
}

// Readiness says whether the node is ready, and why not.
type Readiness struct {
	Ready      bool
	Conditions []Condition
}

// Peer is what is known of a peer.
type Peer struct {
	PeerID          string
	Connected       bool
	Direction       Direction
	Addresses       []string
	RemoteAddress   string
	Protocols       []string
	Agent           string
	ProtocolVersion string
	Identified      bool
	// Latency is 0 until measured.
	Latency time.Duration
	// ConnectTime is when the present connection began; the zero time when not connected.
	ConnectTime time.Time
	Connections uint32
	// Protected says that its connections are never closed because there are too many.
	Protected bool
	// Score is what is thought of it in gossip; nil where nothing is known of it there, or peers are not scored.
	Score *PeerScore
	// Path is how it is reached; PathUnspecified when not connected, and of an earlier sidecar.
	Path PeerPath
	// PathTime is since when it is reached so; the zero time when not connected.
	PathTime time.Time
	// KnownAddresses are in the order in which they are dialled; only Client.Peer has them.
	KnownAddresses []PeerAddress
}

// PeerAddress is an address of a peer.
type PeerAddress struct {
	// Address is without the peer id.
	Address string
	// Origin is who told it; of several, who knows best.
	Origin AddressOrigin
	// LastSuccess is when the peer was reached there last; the zero time for never.
	LastSuccess time.Time
	// LastFailure is when it was not found there last; the zero time for never.
	LastFailure time.Time
}

// PeerEvent is a change of a peer.
type PeerEvent struct {
	Type PeerEventType
	// Peer is as it is now; nil for PeersCurrent, PeersReconnected and PeersLagged.
	Peer *Peer
	// Reason says why it disconnected, empty when in order; of PeerScored, what costs it most.
	Reason string
}

// Topic is a topic as this node sees it.
type Topic struct {
	Name            string
	Subscribed      bool
	Signing         Signing
	Peers           uint32
	MeshPeerIDs     []string
	Subscribers     uint32
	HistoryMessages uint64
	// Delivered counts new messages handed to this node's apps, own ones included. It and what follows begin when the topic
	// comes to be known here.
	Delivered      uint64
	DeliveredBytes uint64 // of payload
	Published      uint64 // by this node's apps
	PublishedBytes uint64
	Duplicates     uint64 // messages of peers that had come before
	Rejected       uint64 // messages of peers with a wrong form or signature
	Dropped        uint64 // copies that a peer did not get since its queue was full
	// Scoring says how its peers are scored by the expected rate, a sentence; empty: as those of any topic.
	Scoring    string
	Ignored    uint64 // messages of peers that were not passed on, though nobody is to blame
	Validators uint32 // apps that judge its messages
	Unjudged   uint32 // messages that wait for their verdicts
	// History says whether its messages are kept on disk. What follows is for topics of which they are.
	History        HistoryState
	StoredMessages uint64
	StoredBytes    uint64 // as they count: as they travelled, and 160 for each
	// OldestTime is the ReceiveTime of the oldest of them; zero where there is none.
	OldestTime time.Time
	// Compared with a peer, nothing was missing here of what was received from CompleteSince until CompleteUntil; zero where
	// no comparison has ended so yet.
	CompleteSince, CompleteUntil time.Time
	// HistoryGap says what arrived and could not be kept, a sentence; empty: nothing, as far as is known.
	HistoryGap string
}

// Message is a message of a topic.
//
// Data, MessageID and Cursor share the memory of the batch that they came with (at most 1 MiB, unless the message itself
// is larger); clone what you keep for long.
type Message struct {
	Topic string
	Data  []byte
	// Sender is proven by the message's signature; empty on unsigned topics.
	Sender    string
	MessageID []byte
	// Cursor continues a subscription behind this message.
	Cursor []byte
	// ReceiveTime is when this node got it; with History about when the first node got it that tells of it.
	ReceiveTime time.Time
	// Local tells that an app of this node published it.
	Local bool
	// History tells that this node had missed it, and a peer brought it later.
	History bool
}

// DirectMessage is a direct message. The connection proves who sent it. Data shares memory as in [Message].
type DirectMessage struct {
	PeerID   string
	Protocol string
	Data     []byte
}

// SendReceipt says what became of a direct message; Detail is for people.
type SendReceipt struct {
	Outcome SendOutcome
	Detail  string
	// MessageID names a durable message that is stored; else zero.
	MessageID MessageID
}

// SendReceipts is the same receipt for Count consecutive messages of a bulk call, from the one numbered First on.
type SendReceipts struct {
	First, Count uint64
	Outcome      SendOutcome
	Detail       string
	// MessageID names the first of durable messages that are stored; those that follow have the next sequences. Else zero.
	MessageID MessageID
}

// PublishReceipt says what became of a published message: to how many peers it was queued, and for how many dropped.
// MessageID shares memory with those of messages that went with it; clone what you keep for long.
type PublishReceipt struct {
	Outcome   PublishOutcome
	MessageID []byte
	Peers     uint32
	Dropped   uint32
}

// PublishReceipts is the same receipt for Count consecutive messages, from the one numbered First on.
type PublishReceipts struct {
	First, Count uint64
	Outcome      PublishOutcome
	Peers        uint32
	Dropped      uint32
	// MessageIDs are the messages' ids in order, where they were asked for and published.
	MessageIDs [][]byte
}

// Request is a request to be answered. The connection proves who asks.
type Request struct {
	PeerID   string
	Protocol string
	Data     []byte
	// TimeLeft is how long the asker still waited when the request came; 0: not said. The handler's context ends then.
	TimeLeft time.Duration
	// Traceparent is the parent, in traces, of what the app does for it; empty outside of traces.
	Traceparent string
}

// Announcement of an advertised name: Holders of the Asked closest peers hold it.
type Announcement struct {
	Holders          uint32
	Asked            uint32
	NextAnnouncement time.Time
}

// ProbeNews is what a probe tells: an answer, or in the end its summary; the other one is nil.
type ProbeNews struct {
	Answer  *ProbeAnswer
	Summary *ProbeSummary
}

// ProbeAnswer says that a receiver got a message of a probe. Number counts the messages from 0.
type ProbeAnswer struct {
	PeerID string
	Number uint32
	// Delay is how long after it was published the message was there.
	Delay time.Duration
	// RoundTrip to the receiver: half of it was taken off for the answer's way, so that Delay is off by that at most.
	RoundTrip time.Duration
	// Direct says that the receiver got the message from this node itself.
	Direct bool
}

// ProbeSummary is a probe as a whole.
type ProbeSummary struct {
	Published, Unpublished uint32
	// Share of the receivers that was asked, 0 to 1.
	Share   float64
	Answers uint64
	// Peers is how many different peers answered.
	Peers uint32
	// Expected are the answers that connected peers of the topic owed, Answered those of them that came. Of other
	// receivers nobody knows who they are.
	Expected, Answered uint64
	// Receivers is about how many receivers the answers stand for.
	Receivers float64
	// Ignored are answers that do not count.
	Ignored uint64
}

// FoundPeer is a peer that advertises a name, or is close to a key, and its addresses as far as they are known.
type FoundPeer struct {
	PeerID    string
	Addresses []string
}

// RecordReceipt says that Stored of the Asked closest peers took a record.
type RecordReceipt struct {
	Stored uint32
	Asked  uint32
}

// Record is a record of the DHT.
type Record struct {
	Value []byte
	// Holders says how many of those asked have this value.
	Holders uint32
	// ExpiresAt is when they will have forgotten it; the zero time where they do not say.
	ExpiresAt time.Time
	// Publisher is who signed it, and Sequence the signed number by which a later value replaces it; empty unless the
	// namespace's rule is `signed`.
	Publisher string
	Sequence  uint64
}
