package sidecar_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// until waits for what another goroutine is about to do.
func until(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}

// A sidecar that hangs: what waits in the client is bounded by count, and whoever comes then waits or gives up.
func TestWhatWaitsIsBoundedByCount(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	pending := []*sidecar.Pending[sidecar.PublishReceipt]{node.PublishAsync(t.Context(), "news", nil)}
	<-gate.entered
	for range 65_535 {
		pending = append(pending, node.PublishAsync(t.Context(), "news", nil))
	}
	equal(t, "callers that wait", sidecar.Crowd(node), 0)

	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() {
		_, err := node.PublishAsync(ctx, "news", nil).Wait()
		given <- err
	}()
	last := publishing(t.Context(), node, "last")
	until(func() bool { return sidecar.Crowd(node) == 2 })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	equal(t, "callers that wait", sidecar.Crowd(node), 1)
	close(gate.open)
	for _, one := range append(pending, node.PublishAsync(t.Context(), "news", nil)) {
		_, err := one.Wait()
		noError(t, err)
	}
	<-last.done
	noError(t, last.err)
	equal(t, "room taken", sidecar.Used(node), 0)
}

func TestWhatWaitsIsBoundedByBytes(t *testing.T) {
	f := started(t)
	hangs, entered := make(chan struct{}), make(chan struct{}, 40)
	f.send = func(ctx context.Context, _ *pb.SendRequest) (*pb.SendResponse, error) {
		entered <- struct{}{}
		select {
		case <-hangs:
		case <-ctx.Done():
		}
		return &pb.SendResponse{Receipt: &pb.SendReceipt{Outcome: pb.SendOutcome_SEND_OUTCOME_DELIVERED}}, nil
	}
	node := connected(t, f)
	data := make([]byte, 1<<20-512)
	pending := []*sidecar.Pending[sidecar.SendReceipt]{node.SendAsync(t.Context(), other, "/p/1", data)}
	<-entered // alone: all others wait for it
	for range 31 {
		pending = append(pending, node.SendAsync(t.Context(), other, "/p/1", data))
	}
	equal(t, "callers that wait", sidecar.Crowd(node), 0)
	more := make(chan *sidecar.Pending[sidecar.SendReceipt])
	go func() { more <- node.SendAsync(t.Context(), other, "/p/1", nil) }()
	until(func() bool { return sidecar.Crowd(node) == 1 })
	close(hangs)
	for _, one := range append(pending, <-more) {
		_, err := one.Wait()
		noError(t, err)
	}
	huge := make([]byte, 40<<20) // beyond the whole room: it takes all of it, and goes
	_, err := node.SendAsync(t.Context(), other, "/p/1", huge).Wait()
	wantError(t, err, sidecar.ErrTooLarge) // says the sidecar
	equal(t, "room taken", sidecar.Used(node), 0)
}

func TestClosingEndsWhoWaitsForRoom(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	pending := []*sidecar.Pending[sidecar.PublishReceipt]{node.PublishAsync(t.Context(), "news", nil)}
	<-gate.entered
	for range 65_535 {
		pending = append(pending, node.PublishAsync(t.Context(), "news", nil))
	}
	late := publishing(t.Context(), node, "late")
	until(func() bool { return sidecar.Crowd(node) == 1 })
	noError(t, node.Close())
	<-late.done
	wantError(t, late.err, sidecar.ErrClosed)
	for _, one := range pending {
		_, err := one.Wait()
		wantError(t, err, sidecar.ErrClosed)
	}
}

// Callers that come and go while the sidecar hangs leave nothing behind.
func TestWhoHasGivenUpDoesNotPileUp(t *testing.T) {
	f := started(t)
	gate := newGate(f)
	node := connected(t, f)
	first := publishing(t.Context(), node, "first")
	<-gate.entered
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		one := node.PublishAsync(ctx, "news", make([]byte, 1000))
		cancel()
		if _, err := one.Wait(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if waits := sidecar.Waiting(node); waits > 100 {
		t.Error(waits, "wait")
	}
	close(gate.open)
	<-first.done
	noError(t, first.err)
	equal(t, "room taken", sidecar.Used(node), 0)
}

func TestRequestsThatWereGivenUpDoNotPileUp(t *testing.T) {
	f := started(t)
	entered := make(chan struct{}, 2000)
	f.request = func(ctx context.Context, _ *pb.RequestRequest) (*pb.RequestResponse, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	node := connected(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	ask := func(ctx context.Context) {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := node.Request(ctx, other, "/p/1", nil); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
	}
	for range 1001 { // one by itself, and as many as may be open in the shared call
		ask(ctx)
	}
	for range 1001 {
		<-entered
	}
	for range 1000 { // these find no room there
		short, end := context.WithCancel(t.Context())
		used := sidecar.Used(node)
		ask(short)
		until(func() bool { return sidecar.Used(node) > used })
		end()
		until(func() bool { return sidecar.Used(node) == used })
	}
	if waits := sidecar.Queued(node); waits > 100 {
		t.Error(waits, "wait")
	}
	cancel()
	all.Wait()
	equal(t, "room taken", sidecar.Used(node), 0)
}

// ---------------------------------------------------------------- reading that is broken off

func TestNextLosesNothing(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	news, err := node.Subscribe(t.Context(), []string{"news"})
	noError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	limited := func() context.Context {
		ctx, end := context.WithTimeout(t.Context(), 1)
		t.Cleanup(end)
		return ctx
	}
	for range 3 { // nothing comes, and each reading gives up in its own way
		_, err := news.Next(limited())
		wantError(t, err, sidecar.ErrDeadlineExceeded)
		if _, err = news.Next(over); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	f.deliver("news", "a", "b", "c", "d", "e")
	event, err := news.Next(t.Context())
	noError(t, err)
	equal(t, "first", string(event.Message.Data), "a")
	if _, err = news.Next(over); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	equal(t, "then", dataOf(read(t, news.Messages(), 2)), "b c")
	event, err = news.Next(t.Context())
	noError(t, err)
	equal(t, "then", string(event.Message.Data), "d")
	for batch, err := range news.Batches() {
		noError(t, err)
		equal(t, "the rest", batch.Len(), 1)
		break
	}
	_, _ = news.Next(limited())
	f.restart()
	f.deliver("news", "f")
	event, err = news.Next(t.Context())
	noError(t, err)
	if event.Lagged == nil {
		t.Error("what was missed is not told")
	}
	equal(t, "after a restart", dataOf(read(t, news.Messages(), 1)), "f")
	_, _ = news.Next(limited())
	noError(t, news.Close())
	for range 2 {
		_, err = news.Next(t.Context())
		wantError(t, err, sidecar.ErrClosed)
	}
}

// Six peers open streams at once, and whoever accepts gives up and begins anew again and again.
func TestAcceptingLosesNoStream(t *testing.T) {
	node := connected(t, started(t))
	acceptor := accepting(t, node)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	ctx, end := context.WithTimeout(t.Context(), 1)
	defer end()
	_, err := acceptor.AcceptContext(ctx)
	wantError(t, err, sidecar.ErrDeadlineExceeded)
	if _, err = acceptor.AcceptContext(over); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	opened := make(chan error, 6)
	for range 6 {
		go func() {
			stream, err := node.OpenStream(t.Context(), other, "/echo/1")
			if err == nil {
				stream.Reset()
			}
			opened <- err
		}()
	}
	for number := range 6 {
		if number%2 == 0 {
			for stream, err := range acceptor.Streams() { // anew for each
				noError(t, err)
				defer stream.Reset()
				break
			}
		} else {
			stream, err := acceptor.AcceptContext(t.Context())
			noError(t, err)
			defer stream.Reset()
		}
		_, _ = acceptor.AcceptContext(over)
	}
	for range 6 {
		noError(t, <-opened)
	}
}
