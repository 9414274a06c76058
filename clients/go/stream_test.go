package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	sidecar "github.com/p2p-sidecar/sidecar/clients/go"
	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

// pair is both ends of a stream.
func pair(t *testing.T, node *sidecar.Client, acceptor *sidecar.Acceptor) (opened, accepted *sidecar.Stream) {
	t.Helper()
	opened, err := node.OpenStream(t.Context(), other, "/echo/2", "/echo/1")
	noError(t, err)
	accepted, err = acceptor.AcceptStream()
	noError(t, err)
	noError(t, accepted.WaitOpen(t.Context())) // a reset before would leave the fake with a stream that waits
	return opened, accepted
}

func accepting(t *testing.T, node *sidecar.Client) *sidecar.Acceptor {
	t.Helper()
	acceptor, err := node.AcceptStreams(t.Context(), "/echo/1")
	noError(t, err)
	t.Cleanup(func() { _ = acceptor.Close() })
	return acceptor
}

func TestStreamIsANetConn(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	acceptor := accepting(t, node)
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		opened, accepted := pair(t, node, acceptor)
		return opened, accepted, func() {
			opened.Reset()
			accepted.Reset()
		}, nil
	})
}

func TestBytesAndEnds(t *testing.T) {
	node := connected(t, started(t))
	opened, accepted := pair(t, node, accepting(t, node))
	equal(t, "addresses", []string{opened.RemoteAddr().String(), opened.RemoteAddr().Network(), opened.LocalAddr().String(), accepted.PeerID()},
		[]string{other + "/echo/1", "libp2p", "/echo/1", other})
	sent := payload(3_000_000)
	go func() {
		written, err := opened.Write(sent)
		if err != nil || written != len(sent) {
			t.Error(written, err)
		}
		for range 2 { // the second does nothing
			if err := opened.CloseWrite(); err != nil {
				t.Error(err)
			}
		}
	}()
	heard, err := io.ReadAll(accepted)
	noError(t, err)
	if !bytes.Equal(heard, sent) {
		t.Errorf("%d bytes came otherwise", len(heard))
	}
	_, err = opened.Write([]byte("x"))
	wantError(t, err, sidecar.ErrClosed)
	if _, err := accepted.Write([]byte("answer")); err != nil { // the other direction goes on
		t.Error(err)
	}
	noError(t, accepted.Close())
	heard, err = io.ReadAll(opened)
	noError(t, err)
	equal(t, "answer", string(heard), "answer")
	noError(t, opened.Close())
	noError(t, opened.Close())
	for _, err := range []error{second(opened.Read(make([]byte, 1))), second(opened.Write([]byte("x"))), opened.CloseWrite(), opened.SetDeadline(time.Now())} {
		wantError(t, err, sidecar.ErrClosed)
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestResetIsSeenByThePeer(t *testing.T) {
	node := connected(t, started(t))
	opened, accepted := pair(t, node, accepting(t, node))
	if _, err := opened.Write([]byte("before")); err != nil {
		t.Error(err)
	}
	buffer := make([]byte, 6)
	if _, err := io.ReadFull(accepted, buffer); err != nil || string(buffer) != "before" {
		t.Error(string(buffer), err)
	}
	opened.Reset()
	_, err := accepted.Read(buffer)
	wantError(t, err, sidecar.ErrStreamReset)
	for err == nil || !errors.Is(err, sidecar.ErrStreamReset) {
		_, err = accepted.Write(buffer)
	}
	noError(t, accepted.Close())
	if _, err := opened.Read(buffer); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestAWriterLearnsWhyThoughNobodyReads(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	opened, accepted := pair(t, node, accepting(t, node))
	if _, err := accepted.Write([]byte("unread")); err != nil {
		t.Error(err)
	}
	accepted.Reset()
	var err error
	for err == nil { // gRPC takes some before it knows
		_, err = opened.Write(make([]byte, 1000))
	}
	wantError(t, err, sidecar.ErrStreamReset)
	opened.Reset()
}

func TestDeadlinesOfAStream(t *testing.T) {
	node := connected(t, started(t))
	opened, accepted := pair(t, node, accepting(t, node))
	defer accepted.Reset()
	defer opened.Reset()
	noError(t, opened.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	var err error
	for err == nil { // nobody reads: it must wait at some point
		_, err = opened.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	noError(t, opened.SetWriteDeadline(time.Time{}))
	go func() { _, _ = io.Copy(io.Discard, accepted) }()
	if _, err := opened.Write([]byte("again")); err != nil {
		t.Error(err)
	}
}

func TestStreamsThatAreRefused(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	_, err := node.OpenStream(t.Context(), other, "/echo/1")
	wantError(t, err, sidecar.ErrNotSupported)
	acceptor := accepting(t, node)
	_, err = node.AcceptStreams(t.Context(), "/echo/1")
	wantError(t, err, sidecar.ErrAlreadyExists)

	opened, err := node.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	defer opened.Reset()
	f.mu.Lock()
	clear(f.pipes) // it has waited too long
	f.mu.Unlock()
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	wantError(t, accepted.WaitOpen(t.Context()), sidecar.ErrNotFound)
	_, err = accepted.Read(make([]byte, 1))
	wantError(t, err, sidecar.ErrNotFound)
	noError(t, accepted.Close())
}

func TestOpeningIsCancelled(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	f.mu.Lock()
	f.accepted["/echo/1"] = make(chan *pb.IncomingStream) // never taken: opening waits
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := node.OpenStream(ctx, other, "/echo/1")
	wantError(t, err, sidecar.ErrDeadlineExceeded)
	<-f.accepted["/echo/1"]
}

func TestTheContextOfOpeningDoesNotEndTheStream(t *testing.T) {
	node := connected(t, started(t))
	acceptor := accepting(t, node)
	ctx, cancel := context.WithCancel(t.Context())
	opened, err := node.OpenStream(ctx, other, "/echo/1")
	noError(t, err)
	cancel()
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	if _, err := opened.Write([]byte("still here")); err != nil {
		t.Error(err)
	}
	noError(t, opened.Close())
	heard, err := io.ReadAll(accepted)
	noError(t, err)
	equal(t, "heard", string(heard), "still here")
	noError(t, accepted.Close())
}

func TestAContextResetsAStream(t *testing.T) {
	node := connected(t, started(t))
	opened, accepted := pair(t, node, accepting(t, node))
	ctx, cancel := context.WithCancel(t.Context())
	opened.ResetWith(ctx)
	released, give := context.WithCancel(t.Context())
	if !accepted.ResetWith(released)() {
		t.Error("it was not let go")
	}
	give() // which is nothing to the stream any more
	reading := make(chan error, 1)
	go func() { reading <- second(opened.Read(make([]byte, 1))) }()
	cancel()
	if err := <-reading; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, err := accepted.Read(make([]byte, 1))
	wantError(t, err, sidecar.ErrStreamReset)
	noError(t, accepted.Close())
}

func TestClosingTheClientBringsLastBytesAway(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	away := connected(t, f)
	acceptor := accepting(t, node)
	opened, err := away.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	heard := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(accepted)
		if err != nil || accepted.Close() != nil {
			t.Error(err)
		}
		heard <- all
	}()
	if _, err := opened.Write(payload(500_000)); err != nil {
		t.Error(err)
	}
	noError(t, opened.Close())
	noError(t, away.Close())
	equal(t, "heard", len(<-heard), 500_000)
}

func TestClosingTheClientEndsStreams(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	away := connected(t, f)
	acceptor := accepting(t, node)
	opened, err := away.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	if _, err := accepted.Write([]byte("unread")); err != nil {
		t.Error(err)
	}
	buffer := make([]byte, 1)
	_, err = opened.Read(buffer) // there is more, which nobody takes
	noError(t, err)
	noError(t, away.Close())
	rest, err := io.ReadAll(opened)
	wantError(t, err, sidecar.ErrClosed)
	equal(t, "what had arrived", string(buffer)+string(rest), "unread")
	_, err = accepted.Read(buffer)
	wantError(t, err, sidecar.ErrStreamReset)
	noError(t, accepted.Close())
}

func TestAListenerOverTheMesh(t *testing.T) {
	node := connected(t, started(t))
	acceptor := accepting(t, node)
	equal(t, "address", acceptor.Addr().String(), "/echo/1")
	site := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello from "+r.URL.Path)
	})}
	served := make(chan error, 1)
	go func() { served <- site.Serve(acceptor) }()
	dialling := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return node.OpenStream(ctx, other, "/echo/1")
	}}
	for range 2 { // over one stream
		response, err := (&http.Client{Transport: dialling}).Get("http://peer/page")
		noError(t, err)
		body, err := io.ReadAll(response.Body)
		noError(t, err)
		_ = response.Body.Close()
		equal(t, "body", string(body), "hello from /page")
	}
	dialling.CloseIdleConnections()
	noError(t, site.Close())
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestAcceptingSurvivesARestart(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	acceptor := accepting(t, node)
	f.restart()
	ctx, cancel := context.WithCancel(t.Context())
	opening := make(chan struct{})
	go func() {
		defer close(opening)
		for ctx.Err() == nil { // until it is in force again
			if opened, err := node.OpenStream(ctx, other, "/echo/1"); err == nil {
				opened.Reset()
				return
			}
		}
	}()
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	cancel()
	<-opening
	accepted.Reset()
	noError(t, acceptor.Close())
	for range acceptor.Streams() {
		t.Error("after the end")
	}
	_, err = acceptor.Accept()
	wantError(t, err, sidecar.ErrClosed)
}

func TestALostConnectionIsNotAReset(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	acceptor := accepting(t, node)
	opened, err := node.OpenStream(t.Context(), other, "/echo/1")
	noError(t, err)
	var cut *pipe
	f.mu.Lock()
	for _, cut = range f.pipes {
	}
	f.mu.Unlock()
	accepted, err := acceptor.AcceptStream()
	noError(t, err)
	noError(t, accepted.WaitOpen(t.Context()))
	cut.cut <- refused(codes.Unavailable, "CLOSED", "the connection was lost", "", 0)
	cut.cut <- refused(codes.Unavailable, "CLOSED", "the connection was lost", "", 0)
	for _, stream := range []*sidecar.Stream{opened, accepted} {
		_, err := stream.Read(make([]byte, 1))
		wantError(t, err, sidecar.ErrClosed)
		if errors.Is(err, sidecar.ErrStreamReset) {
			t.Error(err)
		}
		noError(t, stream.Close())
	}
}

// What one request holds is what the sidecar says, over which gRPC there ends the call; while it has not, what every one takes.
func TestSmallWritesThatWaitGoTogether(t *testing.T) {
	f := started(t)
	node := connected(t, f)
	opened, accepted := pair(t, node, accepting(t, node))
	sent := payload(2_000_000)
	written, before := 0, -1
	for written > before { // until nothing more goes out, since nobody reads
		before = written
		noError(t, opened.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		for {
			count, err := opened.Write(sent[written : written+100])
			written += count
			if err != nil {
				break
			}
		}
	}
	noError(t, opened.SetWriteDeadline(time.Time{}))
	go func() {
		count, err := opened.Write(sent[written:]) // behind them, whole
		if err != nil || count != len(sent)-written {
			t.Error(count, err)
		}
		_ = opened.CloseWrite()
	}()
	heard, err := io.ReadAll(accepted)
	noError(t, err)
	if !bytes.Equal(heard, sent) {
		t.Errorf("%d bytes came otherwise", len(heard))
	}
	if requests, most := int(f.pieces.Load()), written/100-500; requests > most {
		t.Errorf("%d requests for %d writes, at most %d", requests, written/100, most)
	}
}

func TestPiecesKeepToTheBoundOfTheSidecar(t *testing.T) {
	f := newFake(t)
	f.maxRequest, f.options = leastRequest, []grpc.ServerOption{grpc.MaxRecvMsgSize(leastRequest)}
	f.start()
	node := connected(t, f)
	opened, accepted := pair(t, node, accepting(t, node))
	data := bytes.Repeat([]byte("x"), 300_000)
	for from, to := range map[*sidecar.Stream]*sidecar.Stream{opened: accepted, accepted: opened} {
		go func() {
			_, _ = from.Write(data)
			_ = from.CloseWrite()
		}()
		got, err := io.ReadAll(to)
		noError(t, err)
		equal(t, "bytes", len(got), len(data))
	}
}
