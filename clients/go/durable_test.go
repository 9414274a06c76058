package sidecar_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const mail = "/mail/1"

func (f *fake) Settle(ctx context.Context, request *pb.SettleRequest) (*pb.SettleResponse, error) {
	return f.settle(ctx, request)
}

func (f *fake) WatchOutbox(request *pb.WatchOutboxRequest, stream pb.DurableService_WatchOutboxServer) error {
	return f.watchOutbox(request, stream)
}

func (f *fake) ListOutbox(_ context.Context, request *pb.ListOutboxRequest) (*pb.ListOutboxResponse, error) {
	if request.GetProtocol() == "/broken/1" {
		return nil, refused(codes.Internal, "STORAGE_ERROR", "the disk is gone", "", 0)
	}
	message := &pb.OutboxMessage{
		PeerId: other, Protocol: mail, MessageId: &pb.MessageId{Incarnation: 7, Sequence: 1}, RequestId: "r", Size: 3,
		Created: timestamppb.New(time.Unix(9, 0)), Expires: timestamppb.New(time.Unix(99, 0)),
	}
	if request.GetPageToken() == "" {
		return &pb.ListOutboxResponse{Messages: []*pb.OutboxMessage{message}, NextPageToken: request.GetPeerId() + request.GetProtocol()}, nil
	}
	message.RequestId, message.Held = request.GetPageToken(), true
	return &pb.ListOutboxResponse{Messages: []*pb.OutboxMessage{message}}, nil
}

func (f *fake) WithdrawOutbox(_ context.Context, request *pb.WithdrawOutboxRequest) (*pb.WithdrawOutboxResponse, error) {
	return &pb.WithdrawOutboxResponse{Withdrawn: uint64(len(request.GetPeerId()) + len(request.GetProtocol()))}, nil
}

func (f *fake) ListInbox(_ context.Context, request *pb.ListInboxRequest) (*pb.ListInboxResponse, error) {
	message := &pb.InboxMessage{
		Id: 4, PeerId: other, Protocol: mail, MessageId: &pb.MessageId{Incarnation: 7, Sequence: 1}, Size: 3, Attempts: 2,
		Received: timestamppb.New(time.Unix(9, 0)), Expires: timestamppb.New(time.Unix(99, 0)),
	}
	if request.GetDeadLetters() {
		message.Reason = "delivered 2 times"
	}
	if request.GetWithData() {
		message.Data = []byte("abc")
	}
	if request.GetPageToken() == "" && request.GetPeerId() == "" {
		return &pb.ListInboxResponse{Messages: []*pb.InboxMessage{message}, NextPageToken: "more"}, nil
	}
	message.Id = 5
	return &pb.ListInboxResponse{Messages: []*pb.InboxMessage{message}}, nil
}

func (f *fake) RetryDeadLetters(_ context.Context, request *pb.RetryDeadLettersRequest) (*pb.RetryDeadLettersResponse, error) {
	return &pb.RetryDeadLettersResponse{Retried: uint64(len(request.GetIds()) + len(request.GetProtocol()))}, nil
}

func (f *fake) PurgeDeadLetters(_ context.Context, request *pb.PurgeDeadLettersRequest) (*pb.PurgeDeadLettersResponse, error) {
	return &pb.PurgeDeadLettersResponse{Purged: uint64(len(request.GetIds()) + len(request.GetProtocol()))}, nil
}

// keeping has the fake keep durable messages: sequences for them, in the order of the calls, and DELIVERED for others. What it
// gives counts the requests that said for how long.
func keeping(f *fake) *sync.Map {
	var spans sync.Map
	var mu sync.Mutex
	sequence := uint64(0)
	receipt := func(durable *pb.Durable, count int) *pb.SendReceipt {
		if durable == nil {
			return &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED}
		}
		mu.Lock()
		defer mu.Unlock()
		first := sequence + 1
		sequence += uint64(count)
		span := "as configured"
		if durable.GetTimeToLive() != nil {
			span = durable.GetTimeToLive().AsDuration().String()
		}
		before, _ := spans.LoadOrStore(span, 0)
		spans.Store(span, before.(int)+1)
		return &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_STORED, MessageId: &pb.MessageId{Incarnation: 7, Sequence: first}}
	}
	f.send = func(_ context.Context, request *pb.SendRequest) (*pb.SendResponse, error) {
		return &pb.SendResponse{Receipt: receipt(request.GetDurable(), 1)}, nil
	}
	f.sendMany = func(stream pb.DirectService_SendManyServer) error {
		first := uint64(0)
		var durable *pb.Durable // of the last request that named a peer, as the sidecar has it
		for {
			request, err := stream.Recv()
			if err != nil {
				return nil //nolint:nilerr // the caller's end
			}
			if request.GetPeerId() != "" {
				durable = request.GetDurable()
			}
			count := len(request.GetMessages())
			part := &pb.SendReceiptRange{First: first, Count: uint64(count), Receipt: receipt(durable, count)}
			first += uint64(count)
			if err := stream.Send(&pb.SendManyResponse{Receipts: []*pb.SendReceiptRange{part}}); err != nil {
				return err
			}
		}
	}
	return &spans
}

func TestDurableMessagesRideACallAndAllAreDurable(t *testing.T) {
	f := started(t)
	spans := keeping(f)
	node := connected(t, f)
	for number := range uint64(5) {
		kept, err := node.Send(t.Context(), other, mail, nil, sidecar.WithDurable(90*time.Second), sidecar.WithRequestID(fmt.Sprint(number)))
		noError(t, err)
		id := sidecar.MessageID{Incarnation: 7, Sequence: number + 1}
		equal(t, "receipt", kept, sidecar.SendReceipt{Outcome: sidecar.SendStored, MessageID: id})
		plain, err := node.Send(t.Context(), other, mail, nil)
		noError(t, err)
		equal(t, "receipt", plain, sidecar.SendReceipt{Outcome: sidecar.SendDelivered})
	}
	equal(t, "alone", f.count("DirectService/Send"), 2)
	equal(t, "calls", f.count("DirectService/SendMany"), 2)
	said, _ := spans.Load("1m30s")
	equal(t, "requests", said, 5)
	kept, err := node.Send(t.Context(), other, "/mail/2", nil, sidecar.WithDurable(0))
	noError(t, err)
	equal(t, "outcome", kept.Outcome, sidecar.SendStored)
	said, _ = spans.Load("as configured")
	equal(t, "requests", said, 1)
}

func TestDurableMessagesThatGoTogetherHaveOneSequenceEach(t *testing.T) {
	f := started(t)
	keeping(f)
	node := connected(t, f)
	var pending []*sidecar.Pending[sidecar.SendReceipt]
	for range 1000 {
		pending = append(pending, node.SendAsync(t.Context(), other, mail, []byte("x"), sidecar.WithDurable(0)))
	}
	for number, one := range pending {
		receipt, err := one.Wait()
		noError(t, err)
		equal(t, "sequence", receipt.MessageID.Sequence, uint64(number+1))
	}
}

func TestManyDurableMessagesHaveTheirIDs(t *testing.T) {
	f := started(t)
	f.maxRequest = 64 << 10 // several requests
	keeping(f)
	node := connected(t, f)
	payloads := slices.Repeat([][]byte{make([]byte, 1000)}, 500)
	payloads[100] = make([]byte, 100_000) // no request can hold it: it is not sent
	receipts, err := node.SendMany(t.Context(), other, mail, slices.Values(payloads), sidecar.WithDurable(0))
	noError(t, err)
	equal(t, "ranges", len(receipts), 3)
	id := sidecar.MessageID{Incarnation: 7, Sequence: 1}
	equal(t, "before", receipts[0], sidecar.SendReceipts{First: 0, Count: 100, Outcome: sidecar.SendStored, MessageID: id})
	equal(t, "too large", receipts[1].Outcome, sidecar.SendTooLarge)
	equal(t, "its id", receipts[1].MessageID, sidecar.MessageID{})
	id.Sequence = 101
	equal(t, "behind", receipts[2], sidecar.SendReceipts{First: 101, Count: 399, Outcome: sidecar.SendStored, MessageID: id})
}

// delivers has the fake deliver messages with these numbers, as attempt n of the n-th stream, and end the stream when it is told to.
func delivers(f *fake, numbers ...uint64) (asked chan *pb.DurableReceive, lose chan struct{}) {
	asked, lose = make(chan *pb.DurableReceive, 9), make(chan struct{})
	attempt := uint32(0)
	f.receive = func(request *pb.ReceiveRequest, stream pb.DirectService_ReceiveServer) error {
		asked <- request.GetDurable()
		attempt++
		if err := inForce(stream); err != nil {
			return err
		}
		response := &pb.ReceiveResponse{}
		for _, number := range numbers {
			response.Messages = append(response.Messages, &pb.DirectMessage{
				PeerId: other, Protocol: request.GetProtocols()[0], Data: []byte{byte(number)},
				Delivery: &pb.Delivery{Id: number, Attempt: attempt, MessageId: &pb.MessageId{Incarnation: 7, Sequence: number}},
			})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
		select {
		case <-lose:
			return refused(codes.Unavailable, "CLOSED", "going", "", 0)
		case <-stream.Context().Done():
			return nil
		}
	}
	return asked, lose
}

func TestDurableMessagesComeAgainAfterALostConnection(t *testing.T) {
	f := started(t)
	asked, lose := delivers(f, 1, 2)
	node := connected(t, f)
	receiver, err := node.ReceiveDurable(t.Context(), []string{mail},
		sidecar.WithSettleTimeout(2*time.Second), sidecar.WithMaxDeliveries(3), sidecar.WithMaxOpen(9))
	noError(t, err)
	defer receiver.Close()
	wanted := &pb.DurableReceive{SettleTimeout: durationpb.New(2 * time.Second), MaxDeliveries: 3, MaxOpen: 9}
	if got := <-asked; !proto.Equal(got, wanted) {
		t.Errorf("asked for %v, not %v", got, wanted)
	}
	var got []string
	for message, err := range receiver.Messages() {
		noError(t, err)
		equal(t, "peer", message.PeerID, other)
		equal(t, "protocol", message.Protocol, mail)
		equal(t, "id", message.MessageID, sidecar.MessageID{Incarnation: 7, Sequence: message.ID})
		got = append(got, fmt.Sprintf("%d.%d", message.Data[0], message.Attempt))
		if len(got) == 2 {
			close(lose)
		}
		if len(got) == 3 {
			break
		}
	}
	last, err := receiver.Next(t.Context())
	noError(t, err)
	equal(t, "deliveries", append(got, fmt.Sprintf("%d.%d", last.Data[0], last.Attempt)), []string{"1.1", "2.1", "1.2", "2.2"})
	noError(t, receiver.Close())
	_, err = receiver.Next(t.Context())
	wantError(t, err, sidecar.ErrClosed)
}

func TestADurableReceiverThatIsRefused(t *testing.T) {
	f := started(t)
	f.receive = func(*pb.ReceiveRequest, pb.DirectService_ReceiveServer) error {
		return refused(codes.AlreadyExists, "ALREADY_EXISTS", "another one has it", "", 0)
	}
	node := connected(t, f)
	_, err := node.ReceiveDurable(t.Context(), []string{mail})
	wantError(t, err, sidecar.ErrAlreadyExists)
	_, err = node.ReceiveDurable(t.Context(), []string{mail}, sidecar.WithSettleTimeout(-1))
	equal(t, "field", wantError(t, err, sidecar.ErrInvalidArgument).Field, "settle_timeout")
	_, err = node.Send(t.Context(), other, mail, nil, sidecar.WithDurable(-1))
	equal(t, "field", wantError(t, err, sidecar.ErrInvalidArgument).Field, "durable.time_to_live")
	_, err = node.SendMany(t.Context(), other, mail, slices.Values([][]byte(nil)), sidecar.WithDurable(-1))
	equal(t, "field", wantError(t, err, sidecar.ErrInvalidArgument).Field, "durable.time_to_live")
}

// received is the messages that the fake delivers.
func received(t *testing.T, node *sidecar.Client, count int) []sidecar.DurableMessage {
	t.Helper()
	receiver, err := node.ReceiveDurable(t.Context(), []string{mail})
	noError(t, err)
	t.Cleanup(func() { _ = receiver.Close() })
	var all []sidecar.DurableMessage
	for range count {
		message, err := receiver.Next(t.Context())
		noError(t, err)
		all = append(all, message)
	}
	return all
}

func TestSettling(t *testing.T) {
	f := started(t)
	delivers(f, 1, 2, 3, 4)
	var told []*pb.Settlement
	f.settle = func(_ context.Context, request *pb.SettleRequest) (*pb.SettleResponse, error) {
		told = append(told, request.GetSettlements()...)
		return &pb.SettleResponse{Stale: []uint64{4}}, nil
	}
	node := connected(t, f)
	messages := received(t, node, 4)
	fresh, err := messages[0].Acknowledge(t.Context())
	noError(t, err)
	equal(t, "fresh", fresh, true)
	fresh, err = messages[1].Reject(t.Context(), "no such street")
	noError(t, err)
	equal(t, "fresh", fresh, true)
	fresh, err = messages[2].Delay(t.Context(), 1500*time.Millisecond)
	noError(t, err)
	equal(t, "fresh", fresh, true)
	fresh, err = messages[3].Acknowledge(t.Context())
	noError(t, err)
	equal(t, "fresh", fresh, false)
	for index, wanted := range []*pb.Settlement{
		{Id: 1, Attempt: 1},
		{Id: 2, Attempt: 1, Instead: &pb.Settlement_Reject{Reject: "no such street"}},
		{Id: 3, Attempt: 1, Instead: &pb.Settlement_Delay{Delay: durationpb.New(1500 * time.Millisecond)}},
		{Id: 4, Attempt: 1},
	} {
		if !proto.Equal(told[index], wanted) {
			t.Errorf("%v, not %v", told[index], wanted)
		}
	}
	_, err = messages[0].Reject(t.Context(), strings.Repeat("x", 1025))
	equal(t, "field", wantError(t, err, sidecar.ErrInvalidArgument).Field, "reject")
	_, err = messages[0].Reject(t.Context(), "\xff")
	wantError(t, err, sidecar.ErrInvalidArgument)
	_, err = messages[0].Delay(t.Context(), 25*time.Hour)
	equal(t, "field", wantError(t, err, sidecar.ErrInvalidArgument).Field, "delay")
	_, err = sidecar.DurableMessage{}.Acknowledge(t.Context())
	wantError(t, err, sidecar.ErrInvalidArgument)
	equal(t, "calls", f.count("DurableService/Settle"), 4)
}

func TestSettlementsGoTogetherWhileACallIsUnderWay(t *testing.T) {
	f := started(t)
	numbers := make([]uint64, 5000)
	for index := range numbers {
		numbers[index] = uint64(index)
	}
	delivers(f, numbers...)
	entered, gate := make(chan struct{}), make(chan struct{})
	var sizes []int
	f.settle = func(_ context.Context, request *pb.SettleRequest) (*pb.SettleResponse, error) {
		sizes = append(sizes, len(request.GetSettlements()))
		if len(sizes) == 1 {
			close(entered)
			<-gate
		}
		return &pb.SettleResponse{}, nil
	}
	node := connected(t, f)
	messages := received(t, node, len(numbers))
	var all sync.WaitGroup
	acknowledge := func(message sidecar.DurableMessage) {
		all.Add(1)
		go func() {
			defer all.Done()
			if fresh, err := message.Acknowledge(t.Context()); !fresh || err != nil {
				t.Error(fresh, err)
			}
		}()
	}
	acknowledge(messages[0])
	<-entered
	for index, message := range messages[1:] {
		acknowledge(message)
		until(func() bool { return sidecar.Settling(node) == index+1 })
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := messages[0].Acknowledge(given) // it does not even wait
	if given.Err() == nil || err == nil {
		t.Error(err)
	}
	close(gate)
	all.Wait()
	if sizes[0] != 1 || max(sizes[0], slices.Max(sizes)) > 4096 || len(sizes) > 4 {
		t.Errorf("settlements in the calls: %v", sizes)
	}
}

func TestADeliveryIsInACallOnce(t *testing.T) {
	f := started(t)
	delivers(f, 1, 2)
	entered, gate := make(chan struct{}), make(chan struct{})
	done := map[uint64]bool{}
	f.settle = func(_ context.Context, request *pb.SettleRequest) (*pb.SettleResponse, error) {
		response := &pb.SettleResponse{}
		for _, each := range request.GetSettlements() {
			if done[each.GetId()] {
				response.Stale = append(response.Stale, each.GetId())
			}
			done[each.GetId()] = true
		}
		if request.GetSettlements()[0].GetId() == 2 {
			close(entered)
			<-gate
		}
		return response, nil
	}
	node := connected(t, f)
	messages := received(t, node, 2)
	results := make(chan bool, 3)
	acknowledge := func(message sidecar.DurableMessage) {
		fresh, err := message.Acknowledge(t.Context())
		if err != nil {
			t.Error(err)
		}
		results <- fresh
	}
	go acknowledge(messages[1])
	<-entered
	go acknowledge(messages[0])
	go acknowledge(messages[0])
	until(func() bool { return sidecar.Settling(node) == 2 })
	close(gate)
	fresh := 0
	for range 3 {
		if <-results {
			fresh++
		}
	}
	equal(t, "fresh", fresh, 2)
}

func TestWhoWaitsForASettlementIsToldOfAFailure(t *testing.T) {
	f := started(t)
	delivers(f, 1)
	hangs := make(chan struct{})
	f.settle = func(ctx context.Context, _ *pb.SettleRequest) (*pb.SettleResponse, error) {
		if f.count("DurableService/Settle") == 1 {
			return nil, refused(codes.Internal, "STORAGE_ERROR", "the disk is full", "", 0)
		}
		close(hangs)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	node := connected(t, f)
	message := received(t, node, 1)[0]
	_, err := message.Acknowledge(t.Context())
	wantError(t, err, sidecar.ErrStorageError)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hangs
		cancel()
	}()
	if _, err = message.Acknowledge(ctx); err == nil || ctx.Err() == nil {
		t.Error(err)
	}
	noError(t, node.Close())
	_, err = message.Acknowledge(t.Context())
	wantError(t, err, sidecar.ErrClosed)
}

func TestTheWatchGoesOnBehindItsLastEvent(t *testing.T) {
	f := started(t)
	var asked []*pb.WatchOutboxRequest
	f.watchOutbox = func(request *pb.WatchOutboxRequest, stream pb.DurableService_WatchOutboxServer) error {
		asked = append(asked, request)
		if request.GetCursor() > 9 {
			return refused(codes.FailedPrecondition, "OUTDATED", "it is gone", "", 0)
		}
		if err := inForce(stream); err != nil {
			return err
		}
		from := request.GetCursor()
		event := func(cursor uint64) *pb.OutboxEvent {
			return &pb.OutboxEvent{
				Cursor: cursor, PeerId: other, Protocol: mail, MessageId: &pb.MessageId{Incarnation: 7, Sequence: cursor}, RequestId: "r",
				Outcome: pb.DurableOutcome_DURABLE_OUTCOME_REJECTED, Reason: "no such street", Time: timestamppb.New(time.Unix(9, 0)),
			}
		}
		if err := stream.Send(&pb.WatchOutboxResponse{Cursor: &from}); err != nil {
			return err
		}
		if err := stream.Send(&pb.WatchOutboxResponse{Events: []*pb.OutboxEvent{event(from + 1), event(from + 2)}}); err != nil {
			return err
		}
		if len(asked) < 3 {
			return refused(codes.Unavailable, "CLOSED", "going", "", 0)
		}
		<-stream.Context().Done()
		return nil
	}
	node := connected(t, f)
	watch, err := node.WatchOutbox(t.Context(), sidecar.WithPeerID(other), sidecar.WithProtocol(mail))
	noError(t, err)
	defer watch.Close()
	first, err := watch.Next(t.Context())
	noError(t, err)
	equal(t, "event", first, sidecar.OutboxEvent{
		Cursor: 1, PeerID: other, Protocol: mail, MessageID: sidecar.MessageID{Incarnation: 7, Sequence: 1}, RequestID: "r",
		Outcome: sidecar.DurableRejected, Reason: "no such street", Time: time.Unix(9, 0).UTC(),
	})
	for event, err := range watch.Events() {
		noError(t, err)
		if event.Cursor == 5 {
			break
		}
	}
	equal(t, "unset", asked[0].Cursor == nil, true)
	equal(t, "filter", asked[0].GetPeerId()+asked[0].GetProtocol(), other+mail)
	equal(t, "cursors", []uint64{asked[1].GetCursor(), asked[2].GetCursor()}, []uint64{2, 4})
	noError(t, watch.Close())
	_, err = node.WatchOutbox(t.Context(), sidecar.WithOutboxCursor(10))
	wantError(t, err, sidecar.ErrOutdated)
}

func TestAWatchWithoutAnEventGoesOnWhereItBegan(t *testing.T) {
	f := started(t)
	asked := make(chan *uint64, 2)
	going := make(chan struct{})
	f.watchOutbox = func(request *pb.WatchOutboxRequest, stream pb.DurableService_WatchOutboxServer) error {
		asked <- request.Cursor
		began := uint64(5)
		if err := inForce(stream); err != nil {
			return err
		}
		if err := stream.Send(&pb.WatchOutboxResponse{Cursor: &began}); err != nil {
			return err
		}
		if request.Cursor == nil {
			<-going
			return refused(codes.Unavailable, "CLOSED", "going", "", 0)
		}
		return stream.Send(&pb.WatchOutboxResponse{Events: []*pb.OutboxEvent{{Cursor: began + 1}}})
	}
	node := connected(t, f)
	watch, err := node.WatchOutbox(t.Context())
	noError(t, err)
	defer watch.Close()
	close(going)
	event, err := watch.Next(t.Context())
	noError(t, err)
	equal(t, "event", event.Cursor, uint64(6))
	equal(t, "unset", <-asked == nil, true)
	equal(t, "began", *<-asked, uint64(5))
}

func TestOutboxAndInbox(t *testing.T) {
	node := connected(t, started(t))
	var waiting []sidecar.OutboxMessage
	for message, err := range node.Outbox(t.Context(), sidecar.WithPeerID(other), sidecar.WithProtocol(mail)) {
		noError(t, err)
		waiting = append(waiting, message)
	}
	id := sidecar.MessageID{Incarnation: 7, Sequence: 1}
	one := sidecar.OutboxMessage{
		PeerID: other, Protocol: mail, MessageID: id, RequestID: "r", Size: 3, Created: time.Unix(9, 0).UTC(), Expires: time.Unix(99, 0).UTC(),
	}
	two := one
	two.RequestID, two.Held = other+mail, true
	equal(t, "outbox", waiting, []sidecar.OutboxMessage{one, two})
	for _, err := range node.Outbox(t.Context(), sidecar.WithProtocol("/broken/1")) {
		wantError(t, err, sidecar.ErrStorageError)
	}
	count, err := node.Withdraw(t.Context(), other, sidecar.WithProtocol(mail))
	noError(t, err)
	equal(t, "withdrawn", count, uint64(len(other)+len(mail)))

	var letters []sidecar.InboxMessage
	for message, err := range node.Inbox(t.Context(), sidecar.WithDeadLetters(), sidecar.WithData(), sidecar.WithProtocol(mail)) {
		noError(t, err)
		letters = append(letters, message)
	}
	letter := sidecar.InboxMessage{
		ID: 4, PeerID: other, Protocol: mail, MessageID: id, Size: 3, Attempts: 2, Received: time.Unix(9, 0).UTC(),
		Expires: time.Unix(99, 0).UTC(), Data: []byte("abc"), Reason: "delivered 2 times",
	}
	last := letter
	last.ID = 5
	equal(t, "inbox", letters, []sidecar.InboxMessage{letter, last})
	for message, err := range node.Inbox(t.Context(), sidecar.WithPeerID(other)) {
		noError(t, err)
		equal(t, "data", len(message.Data)+len(message.Reason), 0)
	}
	count, err = node.RetryDeadLetters(t.Context(), []uint64{4, 5}, sidecar.WithProtocol(mail))
	noError(t, err)
	equal(t, "retried", count, uint64(2+len(mail)))
	count, err = node.PurgeDeadLetters(t.Context(), nil)
	noError(t, err)
	equal(t, "purged", count, uint64(0))
}
