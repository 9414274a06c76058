package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// gate lets the first Publish call wait, so that what is called meanwhile becomes a batch.
type gate struct {
	entered chan struct{}
	open    chan struct{}
}

func newGate(f *fake) *gate {
	made := &gate{make(chan struct{}), make(chan struct{})}
	var first sync.Once
	f.publish = func(ctx context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		waits := false
		first.Do(func() { waits = true })
		if waits {
			close(made.entered)
			select {
			case <-made.open:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return &pb.PublishResponse{Receipt: sent(request.GetData())}, nil
	}
	return made
}

// called is a Publish that runs beside the test.
type called struct {
	receipt sidecar.PublishReceipt
	err     error
	done    chan struct{}
}

func publishing(ctx context.Context, node *sidecar.Client, data string, options ...sidecar.PublishOption) *called {
	made := &called{done: make(chan struct{})}
	go func() {
		defer close(made.done)
		made.receipt, made.err = node.Publish(ctx, "news", []byte(data), options...)
	}()
	return made
}

// inOrder calls publish again and again, each time when the call before waits for the next batch.
func inOrder(t *testing.T, node *sidecar.Client, count int, publish func(number int)) {
	t.Helper()
	for number := range count {
		before := sidecar.Waiting(node)
		publish(number)
		for sidecar.Waiting(node) == before { // the goroutine is on its way
			runtime.Gosched()
		}
	}
}

func TestPublishingInParallelBecomesFewCalls(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	const count = 10_000
	var all sync.WaitGroup
	for number := range count {
		all.Add(1)
		go func() {
			defer all.Done()
			data := fmt.Sprint(number)
			receipt, err := node.Publish(t.Context(), "news", []byte(data))
			if err != nil || string(receipt.MessageID) != "id-"+data || receipt.Outcome != sidecar.PublishSent || receipt.Peers != 1 {
				t.Error(data, receipt, err)
			}
		}()
	}
	all.Wait()
	if calls := f.count("PubSubService/Publish") + f.count("PubSubService/PublishMany"); calls > 1000 {
		t.Errorf("%d calls for %d messages", calls, count)
	}
}

func TestALoneMessageGoesAtOnceAndABatchInOrder(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	var frames [][]string
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		var frame []string
		known := &pb.PublishReceiptRange{Count: uint64(len(request.GetMessages())), Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_NO_PEERS}
		for _, message := range request.GetMessages() {
			frame = append(frame, string(message.GetData())+message.GetRequestId())
			known.MessageIds = append(known.MessageIds, message.GetData())
		}
		frames = append(frames, append(frame, request.GetTopic(), fmt.Sprint(request.GetReturnMessageIds())))
		return stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}})
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 20, func(number int) {
		var options []sidecar.PublishOption
		if number == 3 {
			options = append(options, sidecar.WithRequestID("+id"))
		}
		calls = append(calls, publishing(t.Context(), node, fmt.Sprint(number), options...))
	})
	close(gate.open)
	<-first.done
	noError(t, first.err)
	wanted := []string{}
	for number, call := range calls {
		<-call.done
		noError(t, call.err)
		equal(t, "receipt", call.receipt, sidecar.PublishReceipt{Outcome: sidecar.PublishNoPeers, MessageID: []byte(fmt.Sprint(number))})
		wanted = append(wanted, fmt.Sprint(number))
	}
	wanted[3] += "+id"
	equal(t, "frames", frames, [][]string{append(wanted, "news", "true")})
}

func TestFramesAreBounded(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	var counts []int
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		first := uint64(0)
		for {
			request, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			count := uint64(len(request.GetMessages()))
			counts = append(counts, int(count))
			known := &pb.PublishReceiptRange{First: first, Count: count, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT}
			first += count
			if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}}); err != nil {
				return err
			}
		}
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 5, func(int) {
		calls = append(calls, publishing(t.Context(), node, strings.Repeat("x", 100<<10)))
	})
	close(gate.open)
	for _, call := range append(calls, first) {
		<-call.done
		noError(t, call.err)
	}
	equal(t, "messages in frames of at most 256 KiB", counts, []int{2, 2, 1})
}

func TestACallerThatLeavesBeforeItsMessageIsWritten(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	var got []string
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, message := range request.GetMessages() {
			got = append(got, string(message.GetData()))
		}
		count := uint64(len(request.GetMessages()))
		known := &pb.PublishReceiptRange{Count: count, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT}
		return stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}})
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	ctx, cancel := context.WithCancel(t.Context())
	var calls []*called
	inOrder(t, node, 3, func(number int) {
		mine := t.Context()
		if number == 1 {
			mine = ctx
		}
		calls = append(calls, publishing(mine, node, fmt.Sprint(number)))
	})
	cancel()
	<-calls[1].done
	if !errors.Is(calls[1].err, context.Canceled) {
		t.Error(calls[1].err)
	}
	close(gate.open)
	for _, call := range []*called{first, calls[0], calls[2]} {
		<-call.done
		noError(t, call.err)
	}
	equal(t, "written", got, []string{"0", "2"})
}

func TestACallIsCancelledWhenAllItsCallersHaveLeft(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	written, cancelled := make(chan struct{}), make(chan struct{})
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		known := &pb.PublishReceiptRange{Count: 1, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT}
		if len(request.GetMessages()) == 3 { // of three, the first is answered; the others leave
			if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}}); err != nil {
				return err
			}
		}
		close(written)
		<-stream.Context().Done()
		close(cancelled)
		return stream.Context().Err()
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	ctx, cancel := context.WithCancel(t.Context())
	var calls []*called
	inOrder(t, node, 3, func(number int) {
		mine := ctx
		if number == 0 {
			mine = t.Context()
		}
		calls = append(calls, publishing(mine, node, fmt.Sprint(number)))
	})
	close(gate.open)
	<-written
	<-calls[0].done
	cancel()
	<-cancelled
	for _, call := range calls[1:] {
		<-call.done
		if !errors.Is(call.err, context.Canceled) {
			t.Error(call.err)
		}
	}
	<-first.done
	noError(t, calls[0].err)
	_, err := node.Publish(t.Context(), "news", []byte("after")) // the topic is not blocked
	noError(t, err)
}

func TestALoneCallIsCancelledWithItsCaller(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	call := publishing(ctx, node, "x")
	<-gate.entered
	cancel()
	<-call.done
	if !errors.Is(call.err, context.Canceled) {
		t.Error(call.err)
	}
	_, err := node.Publish(t.Context(), "news", []byte("after"))
	noError(t, err)
}

func TestPublishWaitsWhileAllQueuesAreFull(t *testing.T) {
	f := started(t)
	f.publish = func(context.Context, *pb.PublishRequest) (*pb.PublishResponse, error) {
		return &pb.PublishResponse{Receipt: &pb.PublishReceipt{Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_QUEUE_FULL}}, nil
	}
	node := connected(t, f)
	receipt, err := node.Publish(t.Context(), "news", []byte("x")) // by PublishMany, which waits
	noError(t, err)
	equal(t, "receipt", receipt, sidecar.PublishReceipt{Outcome: sidecar.PublishSent, MessageID: []byte("id-x"), Peers: 1})
	equal(t, "calls", []int{f.count("PubSubService/Publish"), f.count("PubSubService/PublishMany")}, []int{1, 1})
}

func TestTooLargeInABatch(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		return stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{
			{First: 0, Count: 1, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_TOO_LARGE},
			{First: 1, Count: 1, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_DUPLICATE},
		}})
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 2, func(int) { calls = append(calls, publishing(t.Context(), node, "x")) })
	close(gate.open)
	<-calls[0].done
	failure := wantError(t, calls[0].err, sidecar.ErrTooLarge)
	equal(t, "code", failure.Code, codes.InvalidArgument)
	<-calls[1].done
	noError(t, calls[1].err)
	equal(t, "outcome", calls[1].receipt.Outcome, sidecar.PublishDuplicate)
	<-first.done
}

func TestWhatAnErrorOfABatchMeans(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		return refused(codes.FailedPrecondition, "TOPIC_OPTIONS_DIFFER", "signed here", "", 0)
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 2, func(int) { calls = append(calls, publishing(t.Context(), node, "x")) })
	close(gate.open)
	for _, call := range calls {
		<-call.done
		wantError(t, call.err, sidecar.ErrTopicOptionsDiffer)
	}
	<-first.done
}

func TestALargeMessageGoesAlone(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 5, func(number int) {
		size := 1
		if number == 2 {
			size = 1<<20 + 1 // over the sidecar's bound it would end the call for all others
		}
		calls = append(calls, publishing(t.Context(), node, strings.Repeat("x", size)))
	})
	close(gate.open)
	for _, call := range append(calls, first) {
		<-call.done
		noError(t, call.err)
	}
	equal(t, "calls", []int{f.count("PubSubService/Publish"), f.count("PubSubService/PublishMany")}, []int{2, 2})
}

func TestALostConnectionInTheMiddleOfABatch(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	calls := 0
	var repeated []string
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		calls++
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if calls == 1 {
			known := &pb.PublishReceiptRange{Count: 1, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT}
			if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}}); err != nil {
				return err
			}
			return status.Error(codes.Unavailable, "going")
		}
		for _, message := range request.GetMessages() {
			repeated = append(repeated, string(message.GetData()))
		}
		count := uint64(len(request.GetMessages()))
		known := &pb.PublishReceiptRange{Count: count, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_DUPLICATE}
		return stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}})
	}
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var published []*called
	inOrder(t, node, 4, func(number int) {
		var options []sidecar.PublishOption
		if number >= 2 {
			options = append(options, sidecar.WithRequestID(fmt.Sprint(number)))
		}
		published = append(published, publishing(t.Context(), node, fmt.Sprint(number), options...))
	})
	close(gate.open)
	for _, call := range append(published, first) {
		<-call.done
	}
	noError(t, published[0].err)
	equal(t, "answered", published[0].receipt.Outcome, sidecar.PublishSent)
	failure := wantError(t, published[1].err, sidecar.ErrClosed)
	if !strings.Contains(failure.Message, "may have been published") {
		t.Error(failure)
	}
	for _, call := range published[2:] {
		noError(t, call.err)
		equal(t, "repeated", call.receipt.Outcome, sidecar.PublishDuplicate)
	}
	equal(t, "sent again", repeated, []string{"2", "3"})
}

func TestALoneMessageOverALostConnection(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	calls := 0
	f.publish = func(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		calls++
		if calls < 3 {
			return nil, status.Error(codes.Unavailable, "going")
		}
		return &pb.PublishResponse{Receipt: sent(request.GetData())}, nil
	}
	_, err := node.Publish(t.Context(), "news", []byte("x"))
	if failure := wantError(t, err, sidecar.ErrClosed); !strings.Contains(failure.Message, "may have been published") {
		t.Error(err)
	}
	_, err = node.Publish(t.Context(), "news", []byte("x"), sidecar.WithRequestID("safe"))
	noError(t, err)
	equal(t, "calls", calls, 3)
}

func TestSending(t *testing.T) {
	f := started(t)
	entered, open := make(chan struct{}), make(chan struct{})
	f.send = func(_ context.Context, request *pb.SendRequest) (*pb.SendResponse, error) {
		close(entered)
		<-open
		detail := strings.Join([]string{request.GetPeerId(), request.GetProtocol(), string(request.GetData()), request.GetRequestId()}, " ")
		return &pb.SendResponse{Receipt: &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_NO_SUBSCRIBER, Detail: detail}}, nil
	}
	node := connected(t, f)
	alone := make(chan sidecar.SendReceipt, 1)
	go func() {
		receipt, err := node.Send(t.Context(), other, "/chat/1", []byte("hi"), sidecar.WithRequestID("id"))
		if err != nil {
			t.Error(err)
		}
		alone <- receipt
	}()
	<-entered
	var rest sync.WaitGroup
	inOrder(t, node, 3, func(int) {
		rest.Add(1)
		go func() {
			defer rest.Done()
			receipt, err := node.Send(t.Context(), other, "/chat/1", nil)
			if err != nil || receipt.Detail != "together" {
				t.Error(receipt, err)
			}
		}()
	})
	close(open)
	equal(t, "alone", <-alone, sidecar.SendReceipt{Outcome: sidecar.SendNoSubscriber, Detail: other + " /chat/1 hi id"})
	rest.Wait()
	equal(t, "calls", f.count("DirectService/SendMany"), 1)
}

// ---------------------------------------------------------------- in bulk

func numbered(count int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		buffer := []byte{}
		for number := range count { // the same memory every time: it may be changed once the next is asked for
			buffer = fmt.Append(buffer[:0], number)
			if !yield(buffer) {
				return
			}
		}
	}
}

func TestPublishMany(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	var ids [][]byte
	receipts, err := node.PublishMany(t.Context(), "news", numbered(10_000), sidecar.WithMessageIDs(),
		sidecar.OnPublishReceipts(func(known sidecar.PublishReceipts) { ids = append(ids, known.MessageIDs...) }))
	noError(t, err)
	covered := uint64(0)
	for _, known := range receipts {
		equal(t, "next", known.First, covered)
		covered += known.Count
	}
	equal(t, "covered", covered, uint64(10_000))
	equal(t, "ids", len(ids), 10_000)
	for number, id := range ids {
		if string(id) != fmt.Sprint("id-", number) {
			t.Fatal(number, string(id))
		}
	}

	joined, err := node.PublishMany(t.Context(), "news", numbered(10_000))
	noError(t, err)
	equal(t, "joined", joined, []sidecar.PublishReceipts{{Count: 10_000, Outcome: sidecar.PublishSent, Peers: 1}})
	none, err := node.PublishMany(t.Context(), "news", numbered(0))
	noError(t, err)
	equal(t, "none", len(none), 0)
}

func TestBulkOptions(t *testing.T) {
	f := started(t)
	var heads, ids []string
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		for {
			request, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if request.GetTopic() != "" {
				heads = append(heads, fmt.Sprint(request.GetTopic(), request.GetSigning(), request.GetMinimumPeers(), request.GetReturnMessageIds(), request.GetBundling()))
			}
			for _, message := range request.GetMessages() {
				ids = append(ids, string(message.GetData())+message.GetRequestId())
			}
		}
	}
	node := connected(t, f)
	_, err := node.PublishMany(t.Context(), "news", numbered(3), sidecar.WithSigning(sidecar.SigningStrictSign), sidecar.WithMinimumPeers(2), sidecar.WithBundling(sidecar.BundlingKnown),
		sidecar.WithRequestIDs(func(number uint64) string { return fmt.Sprint("-id", number) }))
	noError(t, err)
	equal(t, "heads", heads, []string{"newsSIGNING_STRICT_SIGN 2 false BUNDLING_KNOWN"})
	equal(t, "ids", ids, []string{"0-id0", "1-id1", "2-id2"})
	_, err = node.PublishMany(t.Context(), "news", numbered(3), sidecar.WithRequestIDs(func(uint64) string { return strings.Repeat("x", 65) }))
	wantError(t, err, sidecar.ErrInvalidArgument)
}

func TestBulkIsHeldBack(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	open := make(chan struct{})
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		<-open // nothing is read until the test has seen that the iterator waits
		for {
			if _, err := stream.Recv(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	const size, count = 64 << 10, 1000
	taken := make(chan int, count)
	done := make(chan error, 1)
	go func() {
		_, err := node.PublishMany(t.Context(), "news", func(yield func([]byte) bool) {
			for number := range count {
				taken <- number
				if !yield(make([]byte, size)) {
					return
				}
			}
		})
		done <- err
	}()
	<-taken
	for range 200 { // while these go to and fro, a sequence that is not held back would be read to its end
		_, err := node.Info(t.Context())
		noError(t, err)
	}
	if read := len(taken); read > 32 {
		t.Errorf("%d payloads of %d bytes were read though the sidecar takes none", read, size)
	}
	close(open)
	noError(t, <-done)
	equal(t, "taken", len(taken), count-1)
}

func TestBulkEndsWithTheCall(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.sendMany = func(stream pb.DirectService_SendManyServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		receipt := &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED}
		known := &pb.SendReceiptRange{Count: 1, Receipt: receipt}
		if err := stream.Send(&pb.SendManyResponse{Receipts: []*pb.SendReceiptRange{known}}); err != nil {
			return err
		}
		return refused(codes.Internal, "INTERNAL_ERROR", "broken", "", 0)
	}
	delivered := []sidecar.SendReceipts{{Count: 1, Outcome: sidecar.SendDelivered}}
	endless := func(yield func([]byte) bool) {
		for yield([]byte("x")) {
		}
	}
	receipts, err := node.SendMany(t.Context(), other, "/chat/1", endless)
	wantError(t, err, sidecar.ErrInternalError)
	equal(t, "known", receipts, delivered)

	waiting := make(chan []byte, 1)
	waiting <- []byte("x")
	receipts, err = node.SendFrom(t.Context(), other, "/chat/1", waiting) // the channel stays open
	wantError(t, err, sidecar.ErrInternalError)
	equal(t, "known", receipts, delivered)
}

func TestMessagesOfAChannelGoAsTheyCome(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	messages := make(chan []byte)
	told := make(chan sidecar.SendReceipts)
	done := make(chan error, 1)
	go func() {
		_, err := node.SendFrom(t.Context(), other, "/chat/1", messages, sidecar.OnSendReceipts(func(known sidecar.SendReceipts) { told <- known }))
		done <- err
	}()
	for number := range uint64(3) {
		messages <- []byte("x")
		equal(t, "first", (<-told).First, number)
	}
	close(messages)
	noError(t, <-done)
}

func TestABatchGoesWhileTheTokenFileIsAway(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	file := filepath.Join(t.TempDir(), "token")
	noError(t, os.WriteFile(file, []byte("secret"), 0o600))
	node := connected(t, f, sidecar.WithTokenFile(file))
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	var calls []*called
	inOrder(t, node, 3, func(number int) { calls = append(calls, publishing(t.Context(), node, fmt.Sprint(number))) })
	noError(t, os.Remove(file))
	close(gate.open)
	<-first.done
	noError(t, first.err)
	for _, one := range calls {
		<-one.done
		noError(t, one.err)
	}
	equal(t, "calls", []int{f.count("PubSubService/Publish"), f.count("PubSubService/PublishMany")}, []int{1, 1})
}

func TestASequenceThatWaitsForItsOwnReceipts(t *testing.T) {
	node := connected(t, started(t))
	told := make(chan uint64, 1)
	messages := func(yield func([]byte) bool) {
		for number := range uint64(3) {
			if !yield([]byte("one of few")) {
				return
			}
			if first := <-told; first != number {
				t.Error(first, number)
			}
		}
	}
	receipts, err := node.PublishMany(t.Context(), "news", messages,
		sidecar.OnPublishReceipts(func(receipts sidecar.PublishReceipts) { told <- receipts.First }))
	noError(t, err)
	equal(t, "count", receipts[0].Count, uint64(3))
}

func TestBulkIsCancelled(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	ended := make(chan struct{})
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		<-stream.Context().Done()
		close(ended)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	messages := make(chan []byte)
	go func() {
		messages <- []byte("x")
		cancel()
	}()
	_, err := node.PublishFrom(ctx, "news", messages)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended
}

func TestPayloadsOfAllSizes(t *testing.T) {
	f := started(t)
	got := map[int]bool{}
	f.publish = func(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		got[len(request.GetData())] = bytes.Equal(request.GetData(), payload(len(request.GetData())))
		return &pb.PublishResponse{Receipt: sent(nil)}, nil
	}
	node := connected(t, f)
	sizes := []int{0, 1, 127, 128, 65_535, 65_536, 1_000_000}
	for _, size := range sizes {
		_, err := node.Publish(t.Context(), fmt.Sprint("news ", size), payload(size)) // the first of a topic goes alone
		noError(t, err)
		if !got[size] {
			t.Errorf("%d bytes came otherwise", size)
		}
	}
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		clear(got)
		for {
			request, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, message := range request.GetMessages() {
				got[len(message.GetData())] = bytes.Equal(message.GetData(), payload(len(message.GetData())))
			}
		}
	}
	all := [][]byte{}
	for _, size := range sizes {
		all = append(all, payload(size))
	}
	_, err := node.PublishMany(t.Context(), "news", slices.Values(all))
	noError(t, err)
	for _, size := range sizes {
		if !got[size] {
			t.Errorf("%d bytes came otherwise in bulk", size)
		}
	}
}

func payload(size int) []byte {
	data := make([]byte, size)
	for index := range data {
		data[index] = byte(index * 7)
	}
	return data
}

func TestPublishingWithoutWaiting(t *testing.T) {
	f := started(t)
	var got []string
	f.publish = func(_ context.Context, request *pb.PublishRequest) (*pb.PublishResponse, error) {
		got = append(got, string(request.GetData()))
		return &pb.PublishResponse{Receipt: sent(request.GetData())}, nil
	}
	f.publishMany = func(stream pb.PubSubService_PublishManyServer) error {
		first := uint64(0)
		for {
			request, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			known := &pb.PublishReceiptRange{First: first, Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT}
			for _, message := range request.GetMessages() {
				got = append(got, string(message.GetData()))
				known.MessageIds = append(known.MessageIds, []byte("id-"+string(message.GetData())))
				known.Count++
			}
			first += known.GetCount()
			if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{known}}); err != nil {
				return err
			}
		}
	}
	node := connected(t, f)
	var pending []*sidecar.Pending[sidecar.PublishReceipt]
	var wanted []string
	for number := range 5000 {
		wanted = append(wanted, fmt.Sprint(number))
		pending = append(pending, node.PublishAsync(t.Context(), "news", []byte(wanted[number])))
	}
	for number, one := range pending {
		receipt, err := one.Wait()
		noError(t, err)
		if string(receipt.MessageID) != "id-"+wanted[number] {
			t.Fatal(number, string(receipt.MessageID))
		}
	}
	equal(t, "in order", got, wanted)
	_, err := node.PublishAsync(t.Context(), "\xff", nil).Wait()
	wantError(t, err, sidecar.ErrInvalidArgument)
	receipt, err := node.SendAsync(t.Context(), other, "/chat/1", nil).Wait()
	noError(t, err)
	equal(t, "sent", receipt.Outcome, sidecar.SendDelivered)
}

func TestAPendingMessageIsCancelled(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	first := node.PublishAsync(t.Context(), "news", []byte("first"))
	<-gate.entered
	ctx, cancel := context.WithCancel(t.Context())
	second := node.PublishAsync(ctx, "news", []byte("second"))
	cancel()
	<-second.Done()
	if _, err := second.Wait(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(gate.open)
	_, err := first.Wait()
	noError(t, err)
	equal(t, "calls", []int{f.count("PubSubService/Publish"), f.count("PubSubService/PublishMany")}, []int{1, 0})
}

// A message that no request can hold gets its receipt, and all others go on, numbered as the app gave them.
func TestOneMessageThatIsTooLargeCostsItsOwnReceiptOnly(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	huge := make([]byte, 4<<20)
	given := [][]byte{huge, []byte("a"), []byte("b"), huge, huge, []byte("c"), huge}
	told := uint64(0)
	sent, err := node.SendMany(t.Context(), other, "/p/1", slices.Values(given), sidecar.OnSendReceipts(
		func(receipts sidecar.SendReceipts) { told += receipts.Count }))
	noError(t, err)
	equal(t, "told", told, uint64(7))
	spans := func(first, count uint64, large bool) string { return fmt.Sprint(first, "+", count, large) }
	var got []string
	for _, one := range sent {
		got = append(got, spans(one.First, one.Count, one.Outcome == sidecar.SendTooLarge))
	}
	wanted := []string{
		spans(0, 1, true), spans(1, 2, false), spans(3, 2, true), spans(5, 1, false), spans(6, 1, true),
	}
	equal(t, "sent", got, wanted)
	equal(t, "detail", sent[0].Detail, "message of 4194304 bytes, and a request to this sidecar holds one of at most 4190112")

	channel := make(chan []byte, len(given))
	for _, data := range given {
		channel <- data
	}
	close(channel)
	published, err := node.PublishFrom(t.Context(), "news", channel, sidecar.WithMessageIDs())
	noError(t, err)
	total := uint64(0)
	for _, one := range published {
		equal(t, "numbers", one.First, total)
		total += one.Count
		equal(t, "ids", len(one.MessageIDs), int(one.Count)*map[bool]int{true: 0, false: 1}[one.Outcome == sidecar.PublishTooLarge])
	}
	equal(t, "published", total, uint64(7))
}
