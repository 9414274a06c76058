package sidecar

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// settings are what Connect is told.
type settings struct {
	target    string
	wait      time.Duration
	reconnect bool
	token     string
	tokenFile string
	tls       *tls.Config
	tlsCA     string
	tlsCert   string
	tlsKey    string
	logger    *slog.Logger
}

// Option is an option of [Connect].
type Option func(*settings)

// WithTarget says where the sidecar is: `unix:PATH`, a path beginning with `/`, `./`, `../` or `~/`, `HOST:PORT`, or
// `tls://HOST:PORT`. Without it, or with an empty one: SIDECAR_API, else the path in SIDECAR_API_SOCKET, else the socket that a
// sidecar serves by default. A relative path counts from the directory in which Connect is called.
func WithTarget(target string) Option { return func(s *settings) { s.target = target } }

// WithWait says how long Connect waits for the sidecar, by default 10 s; 0: one try.
func WithWait(wait time.Duration) Option { return func(s *settings) { s.wait = wait } }

// WithReconnect says whether streams are opened again when the sidecar was gone; by default they are.
func WithReconnect(reconnect bool) Option { return func(s *settings) { s.reconnect = reconnect } }

// WithToken gives the token that every call shows to the sidecar; by default that of SIDECAR_TOKEN, or what the file
// named by SIDECAR_TOKEN_FILE says. A token is never sent in plain text to another machine.
func WithToken(token string) Option { return func(s *settings) { s.token = token } }

// WithTokenFile names a file with the token. It must be readable when Connect is called. Later it is read again when it has
// changed; while it cannot be read, or is empty, the last token counts.
func WithTokenFile(path string) Option { return func(s *settings) { s.tokenFile = path } }

// WithTLSFiles names PEM files for a `tls://` target: the certificates to trust, and this client's own certificate with
// its key. Empty ones: SIDECAR_TLS_CA, SIDECAR_TLS_CERT, SIDECAR_TLS_KEY; without any, the system's roots are trusted.
// They are read again for each connection; while that fails, what they said last counts.
func WithTLSFiles(ca, certificate, key string) Option {
	return func(s *settings) { s.tlsCA, s.tlsCert, s.tlsKey = ca, certificate, key }
}

// WithTLSConfig gives the whole configuration of TLS for a `tls://` target, in the place of files.
func WithTLSConfig(config *tls.Config) Option { return func(s *settings) { s.tls = config } }

// WithLogger gives the logger for what nobody else would hear of: messages missed in plain iteration, connections lost
// and failing handlers. By default slog's own.
func WithLogger(logger *slog.Logger) Option { return func(s *settings) { s.logger = logger } }

// callSettings are the options of calls and streams; each method says which it takes.
type callSettings struct {
	signing          Signing
	minimumPeers     uint32
	bundling         Bundling
	requestID        string
	requestIDs       func(number uint64) string
	returnMessageIDs bool
	onPublish        func(PublishReceipts)
	onSend           func(SendReceipts)
	cursor           []byte
	policy           OverflowPolicy
	queueMessages    uint32
	queueBytes       uint64
	skipLocal        bool
	expectedRate     float64
	startTime        time.Time
	fromBeginning    bool
	concurrency      int
	connectedOnly    bool
	protocol         string
	ttl              time.Duration
	limit            uint32
	peerID           string
	quorum           uint32
	traceparent      string
	messages         uint32
	interval         *time.Duration
	answers          uint32
	size             uint32
	exposed          bool
	fallback         ValidationFallback
	verdictTimeout   time.Duration
	maxWaiting       uint32
	durable          durable
	settleTimeout    *time.Duration
	maxDeliveries    uint32
	maxOpen          uint32
	outboxCursor     *uint64
	deadLetters      bool
	withData         bool
}

type (
	// PublishOption is an option of [Client.Publish]: [WithSigning], [WithMinimumPeers], [WithBundling], [WithRequestID].
	PublishOption interface{ publish(*callSettings) }
	// PublishManyOption is an option of [Client.PublishMany] and [Client.PublishFrom]: [WithSigning],
	// [WithMinimumPeers], [WithBundling], [WithRequestIDs], [WithMessageIDs], [OnPublishReceipts].
	PublishManyOption interface{ publishMany(*callSettings) }
	// SendOption is an option of [Client.Send]: [WithRequestID], [WithDurable].
	SendOption interface{ send(*callSettings) }
	// SendManyOption is an option of [Client.SendMany] and [Client.SendFrom]: [WithRequestIDs], [WithDurable],
	// [OnSendReceipts].
	SendManyOption interface{ sendMany(*callSettings) }
	// RequestOption is an option of [Client.Request]: [WithTraceparent].
	RequestOption interface{ request(*callSettings) }
	// SubscribeOption is an option of [Client.Subscribe]: [WithSigning], [WithCursor], [WithPolicy],
	// [WithQueueMessages], [WithQueueBytes], [WithSkipLocal], [WithExpectedRate], [WithStartTime], [FromBeginning].
	SubscribeOption interface{ subscribe(*callSettings) }
	// ReceiveOption is an option of [Client.Receive]: [WithQueueMessages].
	ReceiveOption interface{ receive(*callSettings) }
	// ServeOption is an option of [Client.Serve]: [WithConcurrency].
	ServeOption interface{ serve(*callSettings) }
	// ValidateOption is an option of [Client.Validate]: [WithFallback], [WithVerdictTimeout], [WithMaxWaiting],
	// [WithConcurrency].
	ValidateOption interface{ validate(*callSettings) }
	// ProbeOption is an option of [Client.Probe]: [WithSigning], [WithMessages], [WithInterval], [WithAnswers], [WithSize],
	// [WithExposed].
	ProbeOption interface{ probe(*callSettings) }
	// PeersOption is an option of [Client.Peers]: [WithConnectedOnly], [WithProtocol].
	PeersOption interface{ peers(*callSettings) }
	// AdvertiseOption is an option of [Client.Advertise]: [WithTTL].
	AdvertiseOption interface{ advertise(*callSettings) }
	// FindPeersOption is an option of [Client.FindPeers]: [WithLimit].
	FindPeersOption interface{ findPeers(*callSettings) }
	// ClosestPeersOption is an option of [Client.ClosestPeers]: [WithPeerID], [WithLimit].
	ClosestPeersOption interface{ closestPeers(*callSettings) }
	// RecordOption is an option of [Client.PutRecord] and [Client.GetRecord]: [WithQuorum].
	RecordOption interface{ record(*callSettings) }
)

// The options, by what takes them.
type (
	// LimitOption goes with everything that finds peers.
	LimitOption interface {
		FindPeersOption
		ClosestPeersOption
	}
	// TopicOption goes with everything that names topics.
	TopicOption interface {
		PublishOption
		PublishManyOption
		SubscribeOption
		ProbeOption
	}
	// PublishingOption goes with publishing, of one message or many.
	PublishingOption interface {
		PublishOption
		PublishManyOption
	}
	// HandlerOption goes with everything that calls the app's handlers.
	HandlerOption interface {
		ServeOption
		ValidateOption
	}
	// SingleOption goes with publishing and sending one message.
	SingleOption interface {
		PublishOption
		SendOption
	}
	// BulkOption goes with publishing and sending many.
	BulkOption interface {
		PublishManyOption
		SendManyOption
	}
	// QueueOption goes with reading messages.
	QueueOption interface {
		SubscribeOption
		ReceiveOption
	}
)

// setting is every option there is; the interfaces above let only those through that a method has.
type setting func(*callSettings)

func (s setting) publish(c *callSettings)      { s(c) }
func (s setting) publishMany(c *callSettings)  { s(c) }
func (s setting) send(c *callSettings)         { s(c) }
func (s setting) sendMany(c *callSettings)     { s(c) }
func (s setting) request(c *callSettings)      { s(c) }
func (s setting) subscribe(c *callSettings)    { s(c) }
func (s setting) receive(c *callSettings)      { s(c) }
func (s setting) serve(c *callSettings)        { s(c) }
func (s setting) validate(c *callSettings)     { s(c) }
func (s setting) probe(c *callSettings)        { s(c) }
func (s setting) peers(c *callSettings)        { s(c) }
func (s setting) advertise(c *callSettings)    { s(c) }
func (s setting) findPeers(c *callSettings)    { s(c) }
func (s setting) closestPeers(c *callSettings) { s(c) }
func (s setting) record(c *callSettings)       { s(c) }

// WithSigning says how the topic's messages are signed; all nodes of a topic must agree.
func WithSigning(signing Signing) TopicOption {
	return setting(func(c *callSettings) { c.signing = signing })
}

// WithMinimumPeers waits, within the context's deadline, until so many peers of the topic are there, at most 1024.
func WithMinimumPeers(peers uint32) PublishingOption {
	return setting(func(c *callSettings) { c.minimumPeers = peers })
}

// WithBundling says whether messages that go together travel as one, under one signature.
func WithBundling(bundling Bundling) PublishingOption {
	return setting(func(c *callSettings) { c.bundling = bundling })
}

// WithRequestID gives the message an id of at most 64 bytes that makes a repeat safe: within a window the sidecar
// answers a repeat with the first one's receipt. Such a message is sent again after a lost connection.
func WithRequestID(id string) SingleOption {
	return setting(func(c *callSettings) { c.requestID = id })
}

// WithRequestIDs names each message of a bulk call by its number, as [WithRequestID] does; empty: no id.
func WithRequestIDs(id func(number uint64) string) BulkOption {
	return setting(func(c *callSettings) { c.requestIDs = id })
}

// WithMessageIDs puts message ids into the receipts.
func WithMessageIDs() PublishManyOption {
	return setting(func(c *callSettings) { c.returnMessageIDs = true })
}

// OnPublishReceipts is called with receipts as they arrive, from a goroutine of the call.
func OnPublishReceipts(told func(PublishReceipts)) PublishManyOption {
	return setting(func(c *callSettings) { c.onPublish = told })
}

// OnSendReceipts is called with receipts as they arrive, from a goroutine of the call.
func OnSendReceipts(told func(SendReceipts)) SendManyOption {
	return setting(func(c *callSettings) { c.onSend = told })
}

// WithTraceparent gives this app's place in a trace, as W3C Trace Context writes it; the app that serves gets its own.
func WithTraceparent(traceparent string) RequestOption {
	return setting(func(c *callSettings) { c.traceparent = traceparent })
}

// WithCursor continues behind a message seen before, by its Cursor, as far as the sidecar's history reaches.
func WithCursor(cursor []byte) SubscribeOption {
	return setting(func(c *callSettings) { c.cursor = cursor })
}

// WithStartTime begins with what was received at that time or later, as far as it is kept. At most one of WithStartTime,
// [FromBeginning] and [WithCursor] is given.
func WithStartTime(start time.Time) SubscribeOption {
	return setting(func(c *callSettings) { c.startTime = start })
}

// FromBeginning begins with the oldest message that the sidecar keeps.
func FromBeginning() SubscribeOption {
	return setting(func(c *callSettings) { c.fromBeginning = true })
}

// WithPolicy says what to drop when the queue in the sidecar is full.
func WithPolicy(policy OverflowPolicy) SubscribeOption {
	return setting(func(c *callSettings) { c.policy = policy })
}

// WithQueueMessages says how many messages wait in the sidecar for a slow reader; 0: the configured bound.
func WithQueueMessages(messages uint32) QueueOption {
	return setting(func(c *callSettings) { c.queueMessages = messages })
}

// WithQueueBytes says how many bytes wait in the sidecar for a slow reader; 0: the configured bound.
func WithQueueBytes(bytes uint64) SubscribeOption {
	return setting(func(c *callSettings) { c.queueBytes = bytes })
}

// WithSkipLocal leaves out what this node's own apps publish.
func WithSkipLocal() SubscribeOption {
	return setting(func(c *callSettings) { c.skipLocal = true })
}

// WithExpectedRate says how many messages a second are expected on each topic, of all publishers together: the sidecar
// scores peers by it.
func WithExpectedRate(rate float64) SubscribeOption {
	return setting(func(c *callSettings) { c.expectedRate = rate })
}

// WithMessages says how many messages to publish, at most 10,000; 0: 20.
func WithMessages(messages uint32) ProbeOption {
	return setting(func(c *callSettings) { c.messages = messages })
}

// WithInterval says how long to wait between two messages, at least 0.1 s; by default 1 s.
func WithInterval(interval time.Duration) ProbeOption {
	return setting(func(c *callSettings) { c.interval = &interval })
}

// WithAnswers says of about how many receivers of each message answers are wanted, at most 256; 0: 32.
func WithAnswers(answers uint32) ProbeOption {
	return setting(func(c *callSettings) { c.answers = answers })
}

// WithSize says how many bytes each payload has, at least.
func WithSize(bytes uint32) ProbeOption {
	return setting(func(c *callSettings) { c.size = bytes })
}

// WithExposed probes although there are peers that do not know probes; their apps get to see the messages.
func WithExposed() ProbeOption {
	return setting(func(c *callSettings) { c.exposed = true })
}

// WithConcurrency says how many handlers run at once, by default 256, and how many judges, by default 1; what is more
// waits.
func WithConcurrency(handlers int) HandlerOption {
	return setting(func(c *callSettings) { c.concurrency = handlers })
}

// WithFallback says what becomes of messages without a verdict, also while no app judges the topics.
func WithFallback(fallback ValidationFallback) ValidateOption {
	return setting(func(c *callSettings) { c.fallback = fallback })
}

// WithVerdictTimeout says how long a message waits for its verdict, up to 10 minutes; goes with [WithFallback]. 0: as configured.
func WithVerdictTimeout(timeout time.Duration) ValidateOption {
	return setting(func(c *callSettings) { c.verdictTimeout = timeout })
}

// WithMaxWaiting says how many messages of a topic may wait for verdicts; goes with [WithFallback].
func WithMaxWaiting(messages uint32) ValidateOption {
	return setting(func(c *callSettings) { c.maxWaiting = messages })
}

// WithConnectedOnly leaves out peers that are not connected.
func WithConnectedOnly() PeersOption {
	return setting(func(c *callSettings) { c.connectedOnly = true })
}

// WithProtocol leaves out peers that do not speak a protocol, or durable messages of others.
func WithProtocol(protocol string) ProtocolOption {
	return setting(func(c *callSettings) { c.protocol = protocol })
}

// WithTTL says for how long to advertise; 0: until it is closed.
func WithTTL(ttl time.Duration) AdvertiseOption {
	return setting(func(c *callSettings) { c.ttl = ttl })
}

// WithPeerID looks for the peers closest to a peer's id (that peer itself is the closest, where it answers), or leaves out
// durable messages of all other peers.
func WithPeerID(peerID string) PeerIDOption {
	return setting(func(c *callSettings) { c.peerID = peerID })
}

// WithLimit says how many peers to find at most; 0: for [Client.FindPeers] 4096, for [Client.ClosestPeers] 20.
func WithLimit(peers uint32) LimitOption {
	return setting(func(c *callSettings) { c.limit = peers })
}

// WithQuorum says, for putting a record, how many other peers must take it; for getting one, how many values end the
// search early (0: 3).
func WithQuorum(peers uint32) RecordOption {
	return setting(func(c *callSettings) { c.quorum = peers })
}
