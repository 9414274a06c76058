package sidecar

import (
	"iter"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Batches are read out of the encoded responses: generated code would make seven pieces of memory for each message. The
// numbers of the fields are those of protos/sidecar/v1.
const (
	responseMessages = 1
	responseLagged   = 2
	responseCursor   = 3

	messageTopic    = 1
	messageData     = 2
	messageSender   = 3
	messageID       = 4
	messageCursor   = 5
	messageReceived = 6
	messageLocal    = 7
	messageHistory  = 8

	directPeer     = 1
	directProtocol = 2
	directData     = 3
)

// names keeps texts that come again and again, so that each is one piece of memory.
type names struct {
	last  string
	known map[string]string
}

const mostNames = 1024 // of topics or senders at once; a guess

func (n *names) text(raw []byte) string {
	if string(raw) == n.last { // compiled to a comparison: no memory
		return n.last
	}
	text, ok := n.known[string(raw)]
	if !ok {
		if n.known == nil || len(n.known) >= mostNames {
			n.known = make(map[string]string)
		}
		text = string(raw)
		n.known[text] = text
	}
	n.last = text
	return text
}

// split is what an encoded SubscribeResponse or ReceiveResponse consists of.
type split struct {
	raw    encoded
	count  int
	last   []byte // the last message
	lagged *Lagged
	cursor []byte
}

func splitResponse(raw encoded) (split, error) {
	found := split{raw: raw}
	err := fields(raw, func(field protowire.Number, data []byte, _ uint64) error {
		switch field {
		case responseMessages:
			found.count++
			found.last = data
		case responseCursor:
			found.cursor = data
		case responseLagged:
			lagged := &Lagged{}
			found.lagged = lagged
			return fields(data, func(field protowire.Number, _ []byte, number uint64) error {
				switch field {
				case 1:
					lagged.Missed, lagged.Known = number, true
				case 2:
					lagged.Reason = LagReason(number)
				}
				return nil
			})
		}
		return nil
	})
	return found, err
}

// nextMessage takes the next message off the rest of an encoded response that has been split before.
func nextMessage(rest []byte) (message, after []byte) {
	for len(rest) > 0 {
		field, kind, size := protowire.ConsumeTag(rest)
		if size < 0 {
			return nil, nil
		}
		if field == responseMessages && kind == protowire.BytesType {
			message, length := protowire.ConsumeBytes(rest[size:])
			return message, rest[size+max(length, 0):]
		}
		skipped := protowire.ConsumeFieldValue(field, kind, rest[size:])
		rest = rest[size+max(skipped, 0):]
	}
	return nil, nil
}

// fieldOf is one field of bytes of an encoded message; nil when it is empty.
func fieldOf(message []byte, wanted protowire.Number) []byte {
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}
		message = message[size:]
		if field == wanted && kind == protowire.BytesType {
			data, _ := protowire.ConsumeBytes(message)
			return data[:len(data):len(data)]
		}
		if size = protowire.ConsumeFieldValue(field, kind, message); size < 0 {
			return nil
		}
		message = message[size:]
	}
	return nil
}

// Batch is messages that came together: [Message] of a [Subscription], [DirectMessage] of a [Receiver].
type Batch[M any] struct {
	split
	parse func(raw []byte, message *M) error
	data  protowire.Number // the field of a message's payload
}

// from is the rest of a batch whose Lagged has been told.
func (b *Batch[M]) from(rest []byte) *Batch[M] {
	left := &Batch[M]{split: split{raw: rest, last: b.last, cursor: b.cursor}, parse: b.parse, data: b.data}
	for message, after := nextMessage(rest); message != nil; message, after = nextMessage(after) {
		left.count++
	}
	return left
}

// Len is how many messages there are.
func (b *Batch[M]) Len() int { return b.count }

// Lagged says what was missed just before these messages; nil where nothing was.
func (b *Batch[M]) Lagged() *Lagged { return b.lagged }

// Payloads gives the data of each message, in order: the fastest way. They share the batch's memory.
func (b *Batch[M]) Payloads() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for message, rest := nextMessage(b.raw); message != nil; message, rest = nextMessage(rest) {
			if !yield(fieldOf(message, b.data)) {
				return
			}
		}
	}
}

// Messages gives the messages, in order. They share the batch's memory.
func (b *Batch[M]) Messages() iter.Seq[M] {
	return func(yield func(M) bool) {
		message := new(M) // one for all: parse sets every field
		for raw, rest := nextMessage(b.raw); raw != nil; raw, rest = nextMessage(rest) {
			if b.parse(raw, message) != nil || !yield(*message) {
				return
			}
		}
	}
}

// topicNames are the names in a subscription's messages.
type topicNames struct{ topics, senders names }

// parse reads a TopicMessage. It is written out since it is run for every message there is.
func (n *topicNames) parse(raw []byte, message *Message) error {
	*message = Message{}
	for len(raw) > 0 {
		field, kind, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return malformed(protowire.ParseError(size))
		}
		raw = raw[size:]
		if kind == protowire.BytesType {
			data, size := protowire.ConsumeBytes(raw)
			if size < 0 {
				return malformed(protowire.ParseError(size))
			}
			raw = raw[size:]
			switch field {
			case messageTopic:
				message.Topic = n.topics.text(data)
			case messageData:
				message.Data = data[:len(data):len(data)]
			case messageSender:
				message.Sender = n.senders.text(data)
			case messageID:
				message.MessageID = data[:len(data):len(data)]
			case messageCursor:
				message.Cursor = data[:len(data):len(data)]
			case messageReceived:
				message.ReceiveTime = timestamp(data)
			}
			continue
		}
		if kind == protowire.VarintType {
			number, _ := protowire.ConsumeVarint(raw)
			switch field {
			case messageLocal:
				message.Local = number != 0
			case messageHistory:
				message.History = number != 0
			}
		}
		if size = protowire.ConsumeFieldValue(field, kind, raw); size < 0 {
			return malformed(protowire.ParseError(size))
		}
		raw = raw[size:]
	}
	return nil
}

func timestamp(raw []byte) time.Time {
	var seconds, nanos uint64
	_ = fields(raw, func(field protowire.Number, _ []byte, number uint64) error {
		switch field {
		case 1:
			seconds = number
		case 2:
			nanos = number
		}
		return nil
	})
	return time.Unix(int64(seconds), int64(nanos)).UTC()
}

// directNames are the names in a receiver's messages.
type directNames struct{ peers, protocols names }

// parse reads a DirectMessage.
func (n *directNames) parse(raw []byte, message *DirectMessage) error {
	*message = DirectMessage{}
	return fields(raw, func(field protowire.Number, data []byte, _ uint64) error {
		switch field {
		case directPeer:
			message.PeerID = n.peers.text(data)
		case directProtocol:
			message.Protocol = n.protocols.text(data)
		case directData:
			message.Data = data[:len(data):len(data)]
		}
		return nil
	})
}
