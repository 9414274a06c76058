package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// read takes so many messages and leaves the loop.
func read[M any](t *testing.T, messages iter.Seq2[M, error], count int) []M {
	t.Helper()
	var taken []M
	for message, err := range messages {
		noError(t, err)
		if taken = append(taken, message); len(taken) == count {
			return taken
		}
	}
	t.Fatalf("it ended after %d of %d", len(taken), count)
	return nil
}

func dataOf(messages []sidecar.Message) string {
	var texts []string
	for _, message := range messages {
		texts = append(texts, string(message.Data))
	}
	return strings.Join(texts, " ")
}

func TestSubscription(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	start := subscription.Cursor()
	if len(start) == 0 {
		t.Error("the cursor is not known from the start")
	}
	f.deliver("news", "a", "b", "", "c", "d", "e", "f")
	first := read(t, subscription.Messages(), 1)[0]
	equal(t, "cursor in the middle of a batch", subscription.Cursor(), first.Cursor)
	equal(t, "message", first, sidecar.Message{
		Topic: "news", Data: []byte("a"), Sender: other, MessageID: []byte("id-a"), Cursor: first.Cursor, ReceiveTime: time.Unix(1000, 7).UTC(),
	})
	equal(t, "in the middle of a batch", dataOf(read(t, subscription.Messages(), 3)), "b  c")
	var events []string
	for event, err := range subscription.Events() {
		noError(t, err)
		if events = append(events, string(event.Message.Data)); len(events) == 2 {
			break
		}
	}
	equal(t, "events", events, []string{"d", "e"})
	for batch, err := range subscription.Batches() { // what the loops above have left of the batch
		noError(t, err)
		equal(t, "the rest", []any{batch.Len(), slices.Collect(batch.Payloads())}, []any{1, [][]byte{[]byte("f")}})
		break
	}
	f.deliver("news", "g", "h")
	for batch, err := range subscription.Batches() {
		noError(t, err)
		var payloads []string
		for payload := range batch.Payloads() {
			payloads = append(payloads, string(payload))
		}
		equal(t, "payloads", payloads, []string{"g", "h"})
		for message := range batch.Messages() {
			equal(t, "id", string(message.MessageID), "id-"+string(message.Data))
		}
		equal(t, "batch", []any{batch.Len(), batch.Lagged()}, []any{2, (*sidecar.Lagged)(nil)})
		break
	}
	noError(t, subscription.Close())
	for _, err := range subscription.Messages() {
		t.Error("after the end", err)
	}

	again, err := node.Subscribe(t.Context(), []string{"news"}, sidecar.WithCursor(start))
	noError(t, err)
	defer again.Close()
	equal(t, "from the cursor", dataOf(read(t, again.Messages(), 9)), "a b  c d e f g h")
	last := read(t, func(yield func(sidecar.Message, error) bool) {
		f.deliver("news", "i")
		again.Messages()(yield)
	}, 1)[0]
	equal(t, "cursor", again.Cursor(), last.Cursor)
}

// An app that keeps the cursor with each message and dies goes on behind that message, whichever way it reads.
func TestTheCursorIsBehindWhatWasGiven(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	defer subscription.Close()
	start := subscription.Cursor()
	f.deliver("news", "a", "b", "c", "d", "e")
	rest := func() string {
		again, err := node.Subscribe(t.Context(), []string{"news"}, sidecar.WithCursor(subscription.Cursor()))
		noError(t, err)
		defer again.Close()
		f.deliver("news", "end")
		var texts []string
		for message, err := range again.Messages() {
			noError(t, err)
			if texts = append(texts, string(message.Data)); texts[len(texts)-1] == "end" {
				break
			}
		}
		return texts[0]
	}
	for _, err := range subscription.Messages() {
		noError(t, err)
		equal(t, "behind a", rest(), "b")
		break
	}
	_, err = subscription.Next(t.Context())
	noError(t, err)
	equal(t, "behind b", rest(), "c")
	for _, err := range subscription.Events() {
		noError(t, err)
		equal(t, "behind c", rest(), "d")
		break
	}
	for _, err := range subscription.Batches() {
		noError(t, err)
		equal(t, "behind the batch", rest(), "end")
		break
	}

	again, err := node.Subscribe(t.Context(), []string{"news"}, sidecar.WithCursor(start))
	noError(t, err)
	defer again.Close()
	over, cancel := context.WithTimeout(t.Context(), time.Nanosecond) // it is read ahead, and nothing is given
	defer cancel()
	_, _ = again.Next(over)
	equal(t, "nothing given", again.Cursor(), start)
}

// What was missed counts as given once it has been told.
func TestTheCursorIsBehindAGapThatWasTold(t *testing.T) {
	f := started(t)
	f.subscribe = func(_ *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		for _, response := range []*pb.SubscribeResponse{
			{Cursor: []byte("5"), Lagged: &pb.Lagged{Reason: pb.LagReason_LAG_REASON_HISTORY_EXCEEDED}, Messages: []*pb.TopicMessage{
				{Topic: "news", Cursor: []byte("6")}, {Topic: "news", Cursor: []byte("7")},
			}},
			{Cursor: []byte("9"), Lagged: &pb.Lagged{Reason: pb.LagReason_LAG_REASON_SLOW_READER}},
		} {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		return nil
	}
	node := connected(t, f)
	for way, wanted := range map[string][]string{"events": {"1", "5", "6", "7", "9"}, "batches": {"1", "7", "9"}} {
		news, err := node.Subscribe(t.Context(), []string{"news"}, sidecar.WithCursor([]byte("1")))
		noError(t, err)
		defer news.Close()
		cursors := []string{string(news.Cursor())}
		if way == "events" {
			for _, err := range news.Events() {
				noError(t, err)
				if cursors = append(cursors, string(news.Cursor())); len(cursors) == len(wanted) {
					break
				}
			}
		} else {
			for _, err := range news.Batches() {
				noError(t, err)
				if cursors = append(cursors, string(news.Cursor())); len(cursors) == len(wanted) {
					break
				}
			}
		}
		equal(t, way, cursors, wanted)
	}
}

func TestSubscribeOptions(t *testing.T) {
	f := started(t)
	var given *pb.SubscribeRequest
	f.subscribe = func(request *pb.SubscribeRequest, _ pb.PubSubService_SubscribeServer) error {
		given = request
		return refused(codes.FailedPrecondition, "TOPIC_OPTIONS_DIFFER", "signed here", "", 0)
	}
	node := connected(t, f)
	_, err := node.Subscribe(t.Context(), []string{"a", "b"}, sidecar.WithSigning(sidecar.SigningStrictNoSign),
		sidecar.WithPolicy(sidecar.OverflowEndStream), sidecar.WithQueueMessages(5), sidecar.WithQueueBytes(6), sidecar.WithSkipLocal(),
		sidecar.WithExpectedRate(2.5), sidecar.WithCursor([]byte("here")))
	wantError(t, err, sidecar.ErrTopicOptionsDiffer)
	wanted := &pb.SubscribeRequest{
		Topics: []string{"a", "b"}, Cursor: []byte("here"), Policy: pb.OverflowPolicy_OVERFLOW_POLICY_END_STREAM, QueueMessages: 5,
		QueueBytes: 6, Signing: pb.Signing_SIGNING_STRICT_NO_SIGN, SkipLocal: true, ExpectedRate: 2.5,
	}
	if !proto.Equal(given, wanted) {
		t.Error(given)
	}
}

func TestSubscriptionContinuesWhereALostConnectionEnded(t *testing.T) {
	f := started(t)
	calls := 0
	f.subscribe = func(request *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
		calls++
		if err := inForce(stream); err != nil {
			return err
		}
		cursor := request.GetCursor()
		if len(cursor) == 0 {
			cursor = []byte("0")
		}
		if err := stream.Send(&pb.SubscribeResponse{Cursor: cursor}); err != nil {
			return err
		}
		if calls > 1 { // the first call is lost before any message
			next := &pb.TopicMessage{Topic: "news", Data: append([]byte("behind "), cursor...), Cursor: append(cursor, '+')}
			if err := stream.Send(&pb.SubscribeResponse{Messages: []*pb.TopicMessage{next}}); err != nil {
				return err
			}
		}
		switch calls {
		case 1:
			return status.Error(codes.Unavailable, "going")
		case 2:
			return status.Error(codes.Canceled, "stopped")
		}
		return nil // ended out of turn
	}
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	defer subscription.Close()
	equal(t, "messages", dataOf(read(t, subscription.Messages(), 3)), "behind 0 behind 0+ behind 0++")
	equal(t, "missed", subscription.Missed(), uint64(0))
}

func TestAStartHoldsUntilThereIsACursor(t *testing.T) {
	start := time.Unix(1_800_000_000, 5000).UTC()
	for name, option := range map[string]sidecar.SubscribeOption{
		"time": sidecar.WithStartTime(start), "beginning": sidecar.FromBeginning(),
	} {
		t.Run(name, func(t *testing.T) {
			f := started(t)
			var asked []*pb.SubscribeRequest
			f.subscribe = func(request *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
				asked = append(asked, proto.CloneOf(request))
				if err := inForce(stream); err != nil {
					return err
				}
				if err := stream.Send(&pb.SubscribeResponse{Cursor: []byte("0")}); err != nil {
					return err
				}
				if len(asked) == 1 {
					return status.Error(codes.Unavailable, "going")
				}
				old := &pb.TopicMessage{Topic: "news", Data: []byte("old"), Cursor: []byte("1"), History: true}
				return stream.Send(&pb.SubscribeResponse{Messages: []*pb.TopicMessage{old}})
			}
			node := connected(t, f)
			subscription, err := node.Subscribe(t.Context(), []string{"news"}, option)
			noError(t, err)
			defer subscription.Close()
			equal(t, "history", read(t, subscription.Messages(), 1)[0].History, true)
			first := &pb.SubscribeRequest{Topics: []string{"news"}, FromBeginning: name == "beginning"}
			if name == "time" {
				first.StartTime = timestamppb.New(start)
			}
			for index, wanted := range []*pb.SubscribeRequest{first, {Topics: []string{"news"}, Cursor: []byte("0")}} {
				if !proto.Equal(asked[index], wanted) {
					t.Error(index, asked[index])
				}
			}
		})
	}
}

func TestSubscriptionSurvivesARestartAndSaysWhatItCannotKnow(t *testing.T) {
	f := started(t)
	var log bytes.Buffer
	node := connected(t, f, sidecar.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	defer subscription.Close()
	f.deliver("news", "before")
	equal(t, "before", dataOf(read(t, subscription.Messages(), 1)), "before")
	f.restart()
	f.deliver("news", "after")
	var events []any
	for event, err := range subscription.Events() {
		noError(t, err)
		if event.Lagged != nil {
			events = append(events, *event.Lagged)
			continue
		}
		events = append(events, string(event.Message.Data))
		break
	}
	equal(t, "events", events, []any{sidecar.Lagged{Reason: sidecar.LagRestarted}, "after"})

	f.restart()
	f.deliver("news", "again")
	equal(t, "plain", dataOf(read(t, subscription.Messages(), 1)), "again")
	if !strings.Contains(log.String(), "the sidecar has restarted") {
		t.Error("not logged:", log.String())
	}
}

func TestLaggedIsCounted(t *testing.T) {
	f := started(t)
	missed := uint64(7)
	f.subscribe = func(_ *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		lagged := &pb.Lagged{Missed: &missed, Reason: pb.LagReason_LAG_REASON_SLOW_READER}
		for _, response := range []*pb.SubscribeResponse{
			{Cursor: []byte("0")},
			{Lagged: lagged, Messages: []*pb.TopicMessage{{Data: []byte("a")}}},
			{Lagged: lagged},
		} {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		return refused(codes.ResourceExhausted, "SLOW_READER", "too slow", "", 0)
	}
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	told := sidecar.Lagged{Missed: 7, Known: true, Reason: sidecar.LagSlowReader}
	var batches []any
	for batch, err := range subscription.Batches() {
		if err != nil {
			wantError(t, err, sidecar.ErrSlowReader)
			batches = append(batches, "end")
			continue
		}
		batches = append(batches, *batch.Lagged(), batch.Len())
	}
	equal(t, "batches", batches, []any{told, 1, told, 0, "end"})
	equal(t, "missed", subscription.Missed(), uint64(14))
	for _, err := range subscription.Messages() { // the end is told again
		wantError(t, err, sidecar.ErrSlowReader)
	}
}

func TestWithoutReconnecting(t *testing.T) {
	f := started(t)
	node := connected(t, f, sidecar.WithReconnect(false))
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	f.restart()
	ends := 0
	for _, err := range subscription.Events() {
		wantError(t, err, sidecar.ErrSidecarUnavailable)
		ends++
	}
	equal(t, "ends", ends, 1)
}

func TestSubscriptionIsCancelled(t *testing.T) {
	f := started(t)
	ended := make(chan struct{})
	f.subscribe = func(_ *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
		defer close(ended)
		if err := inForce(stream); err != nil {
			return err
		}
		if err := stream.Send(&pb.SubscribeResponse{Cursor: []byte("0")}); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}
	node := connected(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	subscription, err := node.Subscribe(ctx, []string{"news"})
	noError(t, err)
	cancel()
	<-ended
	for _, err := range subscription.Messages() {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestClosingFromInsideTheLoop(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	f.deliver("news", "a", "b")
	for message, err := range subscription.Messages() {
		noError(t, err)
		equal(t, "data", string(message.Data), "a")
		noError(t, subscription.Close())
	}
}

func TestASlowReaderIsNotReadAheadOf(t *testing.T) {
	f := started(t)
	const size, most = 16 << 10, 1000
	var sent atomic.Int64
	begun := make(chan struct{})
	f.subscribe = func(_ *pb.SubscribeRequest, stream pb.PubSubService_SubscribeServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		if err := stream.Send(&pb.SubscribeResponse{Cursor: []byte("0")}); err != nil {
			return err
		}
		for number := range most {
			message := &pb.TopicMessage{Data: make([]byte, size)}
			if err := stream.Send(&pb.SubscribeResponse{Messages: []*pb.TopicMessage{message}}); err != nil {
				return err
			}
			if sent.Add(1); number == 0 {
				close(begun)
			}
		}
		<-stream.Context().Done()
		return nil
	}
	node := connected(t, f)
	subscription, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	defer subscription.Close()
	<-begun
	for range 200 { // while these go to and fro, a stream that is not held back sends all it has
		_, err := node.Info(t.Context())
		noError(t, err)
	}
	if count := sent.Load(); count > 32 {
		t.Errorf("%d messages of %d bytes were taken though nobody reads", count, size)
	}
	read(t, subscription.Messages(), most)
}

// ---------------------------------------------------------------- receiving, watching, advertising

func TestReceiverTellsOfALostConnection(t *testing.T) {
	f := started(t)
	calls := 0
	f.receive = func(request *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
		calls++
		equal(t, "queue", request.GetQueueMessages(), uint32(9))
		if err := inForce(stream); err != nil {
			return err
		}
		message := &pb.DirectMessage{PeerId: other, Protocol: request.GetProtocols()[0], Data: []byte(fmt.Sprint("call ", calls))}
		if err := stream.Send(&pb.ReceiveResponse{Messages: []*pb.DirectMessage{message}}); err != nil {
			return err
		}
		if calls == 1 {
			return status.Error(codes.Unavailable, "going")
		}
		<-stream.Context().Done()
		return nil
	}
	node := connected(t, f)
	receiver, err := node.Receive(t.Context(), []string{"/chat/1"}, sidecar.WithQueueMessages(9))
	noError(t, err)
	defer receiver.Close()
	events := read(t, receiver.Events(), 3)
	equal(t, "first", events[0].Message, sidecar.DirectMessage{PeerID: other, Protocol: "/chat/1", Data: []byte("call 1")})
	equal(t, "lagged", *events[1].Lagged, sidecar.Lagged{Reason: sidecar.LagReconnected})
	equal(t, "second", string(events[2].Message.Data), "call 2")
	equal(t, "missed", receiver.Missed(), uint64(0))
}

func TestReceiverInBatches(t *testing.T) {
	f := started(t)
	f.receive = func(_ *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
		if err := inForce(stream); err != nil {
			return err
		}
		messages := []*pb.DirectMessage{{PeerId: other, Protocol: "/a", Data: []byte("1")}, {PeerId: me, Protocol: "/b"}}
		if err := stream.Send(&pb.ReceiveResponse{Messages: messages}); err != nil {
			return err
		}
		return refused(codes.Internal, "INTERNAL_ERROR", "broken", "", 0)
	}
	node := connected(t, f)
	receiver, err := node.Receive(t.Context(), []string{"/a", "/b"})
	noError(t, err)
	var all []sidecar.DirectMessage
	for batch, err := range receiver.Batches() {
		if err != nil {
			wantError(t, err, sidecar.ErrInternalError)
			break
		}
		payloads := 0
		for range batch.Payloads() {
			payloads++
		}
		equal(t, "payloads", payloads, 2)
		for message := range batch.Messages() {
			all = append(all, message)
		}
	}
	equal(t, "messages", all, []sidecar.DirectMessage{{PeerID: other, Protocol: "/a", Data: []byte("1")}, {PeerID: me, Protocol: "/b"}})
}

func TestWatchingPeers(t *testing.T) {
	f := started(t)
	calls := 0
	f.watchPeers = func(stream pb.PeerService_WatchPeersServer) error {
		calls++
		if err := inForce(stream); err != nil {
			return err
		}
		present := &pb.PeerEvent{Type: pb.PeerEventType_PEER_EVENT_TYPE_PRESENT, Peer: &pb.Peer{PeerId: other}}
		current := &pb.PeerEvent{Type: pb.PeerEventType_PEER_EVENT_TYPE_CURRENT}
		gone := &pb.PeerEvent{Type: pb.PeerEventType_PEER_EVENT_TYPE_DISCONNECTED, Peer: &pb.Peer{PeerId: other}, Reason: "went"}
		for _, response := range []*pb.WatchPeersResponse{
			{Events: []*pb.PeerEvent{present, current}},
			{Events: []*pb.PeerEvent{gone}},
			{Events: []*pb.PeerEvent{current}, Lagged: &pb.Lagged{}},
		} {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		return status.Error(codes.Unavailable, "going")
	}
	node := connected(t, f)
	var told []string
	for event, err := range node.WatchPeers(t.Context()) {
		noError(t, err)
		peer := "-"
		if event.Peer != nil {
			peer = event.Peer.PeerID
		}
		told = append(told, strings.TrimSpace(fmt.Sprint(event.Type, " ", peer, " ", event.Reason)))
		if len(told) == 8 {
			break
		}
	}
	equal(t, "events", told, []string{
		"PRESENT " + other, "CURRENT -", "DISCONNECTED " + other + " went", "LAGGED -", "CURRENT -", "RECONNECTED -", "PRESENT " + other,
		"CURRENT -",
	})
}

func TestAdvertising(t *testing.T) {
	f := started(t)
	calls := 0
	more := make(chan struct{})
	f.advertise = func(request *pb.AdvertiseRequest, stream pb.DiscoveryService_AdvertiseServer) error {
		calls++
		if request.GetTtl().AsDuration() != time.Minute {
			return refused(codes.InvalidArgument, "INVALID_ARGUMENT", "no", "ttl", 0)
		}
		if err := inForce(stream); err != nil {
			return err
		}
		if err := stream.Send(&pb.AdvertiseResponse{Holders: uint32(calls), Asked: 20}); err != nil {
			return err
		}
		<-more
		if calls == 1 {
			return status.Error(codes.Unavailable, "going")
		}
		return nil // its time is over
	}
	node := connected(t, f)
	_, err := node.Advertise(t.Context(), "games")
	wantError(t, err, sidecar.ErrInvalidArgument)
	calls = 0
	advertisement, err := node.Advertise(t.Context(), "games", sidecar.WithTTL(time.Minute))
	noError(t, err)
	equal(t, "first", advertisement.Last().Holders, uint32(1))
	var told []uint32
	for announcement, err := range advertisement.Announcements() {
		noError(t, err)
		told = append(told, announcement.Holders)
		more <- struct{}{}
	}
	equal(t, "announcements", told, []uint32{1, 2})
	<-advertisement.Done()
	noError(t, advertisement.Close())

	calls = 0
	held, err := node.Advertise(t.Context(), "games", sidecar.WithTTL(time.Minute))
	noError(t, err)
	noError(t, held.Close())
	for range held.Announcements() { // the last one is still told, and no error
	}
	close(more)
}
