package sidecar

import (
	"context"
	"iter"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// The fields of the requests that are written by hand, as in protos/sidecar/v1.
const (
	publishTopic = 1
	publishData  = 2
	publishSign  = 3
	publishPeers = 4
	publishID    = 5

	publishManyTopic    = 1
	publishManySign     = 2
	publishManyIDs      = 3
	publishManyPeers    = 4
	publishManyMessages = 5
	publishManyBundling = 6

	publishedReceipts = 1
	rangeFirst        = 1
	rangeCount        = 2
	rangeOutcome      = 3
	rangePeers        = 4
	rangeDropped      = 5
	rangeIDs          = 6

	sendPeer     = 1
	sendProtocol = 2
	sendData     = 3
	sendID       = 4
	sendDurable  = 5

	sendManyPeer     = 1
	sendManyProtocol = 2
	sendManyMessages = 3
	sendManyDurable  = 4
)

type publishKey struct {
	topic        string
	signing      Signing
	minimumPeers uint32
	bundling     Bundling
}

type sendKey struct {
	peerID, protocol string
	durable          durable
}

func publishHead(buffer []byte, key publishKey, ids bool) []byte {
	buffer = appendText(buffer, publishManyTopic, key.topic)
	buffer = appendNumber(buffer, publishManySign, uint64(key.signing))
	if ids {
		buffer = appendNumber(buffer, publishManyIDs, 1)
	}
	buffer = appendNumber(buffer, publishManyPeers, uint64(key.minimumPeers))
	return appendNumber(buffer, publishManyBundling, uint64(key.bundling))
}

func sendHead(buffer []byte, key sendKey) []byte {
	buffer = appendText(appendText(buffer, sendManyPeer, key.peerID), sendManyProtocol, key.protocol)
	return key.durable.append(buffer, sendManyDurable)
}

func newPublishing(l *link) outbox[publishKey, PublishReceipt] {
	return outbox[publishKey, PublishReceipt]{
		link: l,
		verb: "published",
		bulk: sidecarv1.PubSubService_PublishMany_FullMethodName,
		head: func(buffer []byte, key publishKey) []byte { return publishHead(buffer, key, true) },
		item: func(buffer, data []byte, id string) []byte {
			return appendOutgoing(buffer, publishManyMessages, data, id)
		},
		single: func(key publishKey, data []byte, id string) encoded {
			buffer := make([]byte, 0, len(key.topic)+len(data)+len(id)+40)
			buffer = appendBytes(appendText(buffer, publishTopic, key.topic), publishData, data)
			buffer = appendNumber(buffer, publishSign, uint64(key.signing))
			buffer = appendNumber(buffer, publishPeers, uint64(key.minimumPeers))
			return appendText(buffer, publishID, id)
		},
		alone: func(ctx context.Context, request encoded, repeat repeatable) (PublishReceipt, bool, error) {
			var response sidecarv1.PublishResponse
			reached, err := l.reach(ctx, sidecarv1.PubSubService_Publish_FullMethodName, request, &response, repeat)
			receipt := response.GetReceipt()
			return PublishReceipt{
				Outcome:   PublishOutcome(receipt.GetOutcome()),
				MessageID: receipt.GetMessageId(),
				Peers:     receipt.GetPeers(),
				Dropped:   receipt.GetDropped(),
			}, reached, err
		},
		answer: func(call grpc.ClientStream, each func(receipts[PublishReceipt])) error {
			var response encoded
			if err := call.RecvMsg(&response); err != nil {
				return err
			}
			return fields(response, func(field protowire.Number, data []byte, _ uint64) error {
				if field != publishedReceipts {
					return nil
				}
				known, err := readReceipts(data)
				if err == nil {
					each(known)
				}
				return err
			})
		},
		waits:   func(receipt PublishReceipt) bool { return receipt.Outcome == PublishQueueFull },
		refused: func(receipt PublishReceipt) error { return tooLarge(receipt.Outcome == PublishTooLarge, "") },
		lanes:   make(map[publishKey]*lane[PublishReceipt]),
	}
}

func newSending(l *link) outbox[sendKey, SendReceipt] {
	return outbox[sendKey, SendReceipt]{
		link: l,
		verb: "sent",
		bulk: sidecarv1.DirectService_SendMany_FullMethodName,
		head: sendHead,
		item: func(buffer, data []byte, id string) []byte { return appendOutgoing(buffer, sendManyMessages, data, id) },
		single: func(key sendKey, data []byte, id string) encoded {
			buffer := make([]byte, 0, len(key.peerID)+len(key.protocol)+len(data)+len(id)+40)
			buffer = appendText(appendText(buffer, sendPeer, key.peerID), sendProtocol, key.protocol)
			buffer = appendText(appendBytes(buffer, sendData, data), sendID, id)
			return key.durable.append(buffer, sendDurable)
		},
		alone: func(ctx context.Context, request encoded, repeat repeatable) (SendReceipt, bool, error) {
			var response sidecarv1.SendResponse
			reached, err := l.reach(ctx, sidecarv1.DirectService_Send_FullMethodName, request, &response, repeat)
			receipt := response.GetReceipt()
			return SendReceipt{SendOutcome(receipt.GetOutcome()), receipt.GetDetail(), messageIDOf(receipt.GetMessageId())}, reached, err
		},
		answer: func(call grpc.ClientStream, each func(receipts[SendReceipt])) error {
			var response sidecarv1.SendManyResponse
			if err := call.RecvMsg(&response); err != nil {
				return err
			}
			for _, message := range response.GetReceipts() {
				known := sendReceipts(message)
				receipt := SendReceipt{known.Outcome, known.Detail, known.MessageID}
				each(receipts[SendReceipt]{known.First, known.Count, func() SendReceipt {
					given := receipt
					receipt.MessageID = receipt.MessageID.behind(1)
					return given
				}})
			}
			return nil
		},
		waits:   func(SendReceipt) bool { return false },
		refused: func(receipt SendReceipt) error { return tooLarge(receipt.Outcome == SendTooLarge, receipt.Detail) },
		lanes:   make(map[sendKey]*lane[SendReceipt]),
	}
}

// readReceipts reads a PublishReceiptRange. The ids of the messages stay in the memory of the response.
func readReceipts(raw []byte) (receipts[PublishReceipt], error) {
	var known receipts[PublishReceipt]
	var receipt PublishReceipt
	err := fields(raw, func(field protowire.Number, _ []byte, number uint64) error {
		switch field {
		case rangeFirst:
			known.first = number
		case rangeCount:
			known.count = number
		case rangeOutcome:
			receipt.Outcome = PublishOutcome(number)
		case rangePeers:
			receipt.Peers = uint32(number)
		case rangeDropped:
			receipt.Dropped = uint32(number)
		}
		return nil
	})
	known.next = func() PublishReceipt {
		receipt.MessageID = nil
		for len(raw) > 0 { // well formed: it has been read before
			field, kind, size := protowire.ConsumeTag(raw)
			raw = raw[size:]
			if field == rangeIDs && kind == protowire.BytesType {
				id, size := protowire.ConsumeBytes(raw)
				receipt.MessageID, raw = id[:len(id):len(id)], raw[size:]
				break
			}
			raw = raw[protowire.ConsumeFieldValue(field, kind, raw):]
		}
		return receipt
	}
	return known, err
}

// tooLarge is the error of an outcome that the unary methods give as a status.
func tooLarge(it bool, detail string) error {
	if !it {
		return nil
	}
	if detail == "" {
		detail = "the message is over the bound on payloads"
	}
	return &Error{Kind: ErrTooLarge, Message: detail, Reason: "TOO_LARGE", Code: codes.InvalidArgument}
}

// Publish publishes one message and says where it went. ErrTooLarge, ErrTopicOptionsDiffer.
//
// It waits while the queues of all peers are full. Publishing from many goroutines at once is fast: what is called while
// a call is in flight goes together in the next one. Where the connection is lost before the receipt, the error is
// ErrClosed and the message may have been published; [WithRequestID] makes it safe to go on, and is sent again.
func (c *Client) Publish(
	ctx context.Context, topic string, data []byte, options ...PublishOption,
) (PublishReceipt, error) {
	key, id, err := publishing(topic, options)
	if err != nil {
		return PublishReceipt{}, err
	}
	return c.publish.add(ctx, key, data, id, "publishing")
}

// PublishAsync is Publish that does not wait: one goroutine can publish many, in order, and take each one's receipt by
// [Pending.Wait]. Errors are told there too. ctx ends the message as it ends Publish. The data must not be changed before
// the receipt is there.
//
// At most 32 MiB wait in the client, where a message counts 512 bytes beside its data, so 65,536 messages. Then it waits for
// room, until ctx ends: a sidecar that hangs takes no memory without end.
func (c *Client) PublishAsync(
	ctx context.Context, topic string, data []byte, options ...PublishOption,
) *Pending[PublishReceipt] {
	key, id, err := publishing(topic, options)
	if err != nil {
		return failed[PublishReceipt](err)
	}
	return c.publish.later(ctx, key, data, id, "publishing")
}

func publishing(topic string, options []PublishOption) (publishKey, string, error) {
	if len(options) == 0 {
		return publishKey{topic: topic}, "", checkText("topic", topic)
	}
	chosen := usedSettings.Get().(*callSettings)
	defer usedSettings.Put(chosen)
	*chosen = callSettings{}
	for _, option := range options {
		option.publish(chosen)
	}
	return publishKey{topic, chosen.signing, chosen.minimumPeers, chosen.bundling}, chosen.requestID, checkText("topic", topic)
}

// usedSettings are those of single messages: memory for each call would cost more than all else that is done with them.
var usedSettings = sync.Pool{New: func() any { return new(callSettings) }}

// Send sends one message to a peer and says what became of it. ErrTooLarge.
//
// It gathers and fails as Publish does, for each peer and protocol. With [WithDurable] it returns as soon as the message is
// on the sidecar's disk; [Client.WatchOutbox] tells what becomes of it.
func (c *Client) Send(
	ctx context.Context, peerID, protocol string, data []byte, options ...SendOption,
) (SendReceipt, error) {
	key, id, err := sending(peerID, protocol, options)
	if err != nil {
		return SendReceipt{}, err
	}
	return c.send.add(ctx, key, data, id, "sending")
}

// SendAsync is Send that does not wait, as PublishAsync is Publish, with the same bound: messages to one peer and protocol go
// in the order of the calls.
func (c *Client) SendAsync(
	ctx context.Context, peerID, protocol string, data []byte, options ...SendOption,
) *Pending[SendReceipt] {
	key, id, err := sending(peerID, protocol, options)
	if err != nil {
		return failed[SendReceipt](err)
	}
	return c.send.later(ctx, key, data, id, "sending")
}

func sending(peerID, protocol string, options []SendOption) (sendKey, string, error) {
	err := checkText("peer_id", peerID)
	if err == nil {
		err = checkText("protocol", protocol)
	}
	if len(options) == 0 {
		return sendKey{peerID: peerID, protocol: protocol}, "", err
	}
	chosen := usedSettings.Get().(*callSettings)
	defer usedSettings.Put(chosen)
	*chosen = callSettings{}
	for _, option := range options {
		option.send(chosen)
	}
	if err == nil {
		err = chosen.durable.check()
	}
	return sendKey{peerID, protocol, chosen.durable}, chosen.requestID, err
}

// PublishMany publishes many messages, in batches, as fast as the peers take them. It returns receipts that cover all of
// them, numbered from 0; where an error ends it midway, those that are known. A message that is too large has the outcome
// [PublishTooLarge], and the others go on.
//
// The sequence (slices.Values(payloads), or any other) is read while the messages go out, by the calling goroutine, and
// each payload may be changed once the next one is asked for. A sequence that waits should be a channel: see PublishFrom.
func (c *Client) PublishMany(
	ctx context.Context, topic string, messages iter.Seq[[]byte], options ...PublishManyOption,
) ([]PublishReceipts, error) {
	return c.publishMany(ctx, topic, source{sequence: messages}, options)
}

// PublishFrom is PublishMany for messages that come over time: what has come while the last batch was written goes with the
// next one. It ends when the channel is closed, or with the call.
func (c *Client) PublishFrom(
	ctx context.Context, topic string, messages <-chan []byte, options ...PublishManyOption,
) ([]PublishReceipts, error) {
	return c.publishMany(ctx, topic, source{channel: messages}, options)
}

func (c *Client) publishMany(
	ctx context.Context, topic string, messages source, options []PublishManyOption,
) ([]PublishReceipts, error) {
	var chosen callSettings
	for _, option := range options {
		option.publishMany(&chosen)
	}
	if err := checkText("topic", topic); err != nil {
		return nil, err
	}
	key := publishKey{topic, chosen.signing, chosen.minimumPeers, chosen.bundling}
	bulk := transfer[PublishReceipts]{
		link:   c.link,
		method: sidecarv1.PubSubService_PublishMany_FullMethodName,
		name:   "publishing",
		head:   publishHead(nil, key, chosen.returnMessageIDs),
		field:  publishManyMessages,
		id:     chosen.requestIDs,
		told:   chosen.onPublish,
		answer: func(call grpc.ClientStream, each func(PublishReceipts)) error {
			var response sidecarv1.PublishManyResponse
			if err := call.RecvMsg(&response); err != nil {
				return err
			}
			for _, message := range response.GetReceipts() {
				each(publishReceipts(message))
			}
			return nil
		},
		span: func(receipts PublishReceipts) (first, count uint64) { return receipts.First, receipts.Count },
		part: func(receipts PublishReceipts, offset, first, count uint64) PublishReceipts {
			if len(receipts.MessageIDs) > 0 {
				receipts.MessageIDs = receipts.MessageIDs[offset : offset+count]
			}
			receipts.First, receipts.Count = first, count
			return receipts
		},
		large: func(number uint64, _ string) PublishReceipts {
			return PublishReceipts{First: number, Count: 1, Outcome: PublishTooLarge}
		},
		join: joinPublishReceipts,
	}
	return bulk.run(ctx, messages)
}

// SendMany sends many messages to a peer, as PublishMany publishes them.
func (c *Client) SendMany(
	ctx context.Context, peerID, protocol string, messages iter.Seq[[]byte], options ...SendManyOption,
) ([]SendReceipts, error) {
	return c.sendMany(ctx, peerID, protocol, source{sequence: messages}, options)
}

// SendFrom sends many messages to a peer, as PublishFrom publishes them.
func (c *Client) SendFrom(
	ctx context.Context, peerID, protocol string, messages <-chan []byte, options ...SendManyOption,
) ([]SendReceipts, error) {
	return c.sendMany(ctx, peerID, protocol, source{channel: messages}, options)
}

func (c *Client) sendMany(
	ctx context.Context, peerID, protocol string, messages source, options []SendManyOption,
) ([]SendReceipts, error) {
	var chosen callSettings
	for _, option := range options {
		option.sendMany(&chosen)
	}
	if err := checkText("peer_id", peerID); err != nil {
		return nil, err
	}
	if err := checkText("protocol", protocol); err != nil {
		return nil, err
	}
	if err := chosen.durable.check(); err != nil {
		return nil, err
	}
	bulk := transfer[SendReceipts]{
		link:   c.link,
		method: sidecarv1.DirectService_SendMany_FullMethodName,
		name:   "sending",
		head:   sendHead(nil, sendKey{peerID, protocol, chosen.durable}),
		field:  sendManyMessages,
		id:     chosen.requestIDs,
		told:   chosen.onSend,
		answer: func(call grpc.ClientStream, each func(SendReceipts)) error {
			var response sidecarv1.SendManyResponse
			if err := call.RecvMsg(&response); err != nil {
				return err
			}
			for _, message := range response.GetReceipts() {
				each(sendReceipts(message))
			}
			return nil
		},
		span: func(receipts SendReceipts) (first, count uint64) { return receipts.First, receipts.Count },
		part: func(receipts SendReceipts, offset, first, count uint64) SendReceipts {
			receipts.MessageID = receipts.MessageID.behind(offset)
			receipts.First, receipts.Count = first, count
			return receipts
		},
		large: func(number uint64, detail string) SendReceipts {
			return SendReceipts{First: number, Count: 1, Outcome: SendTooLarge, Detail: detail}
		},
		join: joinSendReceipts,
	}
	return bulk.run(ctx, messages)
}

// joinPublishReceipts adds the receipts that follow to the last ones, where they say the same and name no ids.
func joinPublishReceipts(last *PublishReceipts, next PublishReceipts) bool {
	if last.First+last.Count != next.First || last.Outcome != next.Outcome || last.Peers != next.Peers ||
		last.Dropped != next.Dropped || len(next.MessageIDs) > 0 || len(last.MessageIDs) > 0 {
		return false
	}
	last.Count += next.Count
	return true
}

func joinSendReceipts(last *SendReceipts, next SendReceipts) bool {
	if last.First+last.Count != next.First || last.Outcome != next.Outcome || last.Detail != next.Detail ||
		last.MessageID.behind(last.Count) != next.MessageID {
		return false
	}
	last.Count += next.Count
	return true
}
