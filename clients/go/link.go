package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	firstPause = 50 * time.Millisecond // between tries, doubling
	lastPause  = time.Second
	patience   = 10 * time.Second // how long a call without a deadline waits for a sidecar that is not there
	window     = 64 << 10         // of a stream: small, so that a slow reader is noticed early
)

var (
	unaryCall        = &grpc.StreamDesc{}
	serverStreamCall = &grpc.StreamDesc{ServerStreams: true}
	bothStreamCall   = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
)

// link is the connection to a sidecar: how it is set up, how calls are made, and when they are made again.
type link struct {
	target    target
	reconnect bool
	logger    *slog.Logger
	conn      *grpc.ClientConn
	dials     atomic.Int64
	// keeps says whether calls stay open for what is called for later. Quotas slow streams and refuse single calls: where
	// there may be some, for a token, a message that is alone stays a single call.
	keeps   bool
	carrier *carrier // of byte streams
	limits

	ctx  context.Context // ends when the client is closed
	stop context.CancelFunc

	mu      sync.Mutex
	closed  bool
	workers sync.WaitGroup // goroutines of this client
	leaving sync.WaitGroup // those that bring last bytes away
}

func newLink(where target, config *settings) (*link, error) {
	secured, err := transportSecurity(where, config)
	if err != nil {
		return nil, err
	}
	secret, err := findToken(where, config)
	if err != nil {
		return nil, err
	}
	made := &link{target: where, reconnect: config.reconnect, logger: config.logger, keeps: secret == nil}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(secured),
		grpc.WithContextDialer(made.dialer(secret != nil && !where.tls)), // which also leaves out any proxy
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: lastPause},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(16 * window), // counts what is on its way, not what waits for a slow reader
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(ourCodec),
			grpc.MaxCallRecvMsgSize(math.MaxInt32), // the sidecar bounds its batches
			grpc.MaxCallSendMsgSize(math.MaxInt32), // and says itself what is too large
		),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
	}
	if where.network == "unix" {
		options = append(options, grpc.WithAuthority("localhost"))
	}
	if secret != nil {
		options = append(options, grpc.WithPerRPCCredentials(secret))
	}
	address := where.address
	if where.network == "unix" {
		address = "unix" // only the dialer is to read the path, in which nothing is an escape as it would be in a URI
	}
	if made.conn, err = grpc.NewClient("passthrough:///"+address, options...); err != nil {
		return nil, badField("target", "target %s: %v", where.text, err)
	}
	made.carrier = newCarrier(made)
	made.ctx, made.stop = context.WithCancel(context.Background())
	return made, nil
}

// dialer opens connections. What must stay on this machine is not sent to a name that leads elsewhere.
func (l *link) dialer(stay bool) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		l.dials.Add(1)
		conn, err := (&net.Dialer{}).DialContext(ctx, l.target.network, l.target.address)
		if err != nil || !stay {
			return conn, err
		}
		if remote, ok := conn.RemoteAddr().(*net.TCPAddr); ok && !remote.IP.IsLoopback() {
			_ = conn.Close()
			return nil, badField("token", "%s is %s: a token is not sent there in plain text", l.target.text, remote)
		}
		return conn, nil
	}
}

// spawn runs a goroutine of this client, which close waits for; false when it is closed already.
func (l *link) spawn(work func()) bool { return l.track(&l.workers, work) }

// leave runs a goroutine that close lets come to its own end before it ends all others.
func (l *link) leave(work func()) bool { return l.track(&l.leaving, work) }

func (l *link) track(group *sync.WaitGroup, work func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	group.Add(1)
	go func() {
		defer group.Done()
		work()
	}()
	return true
}

func (l *link) close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	l.leaving.Wait()
	l.stop()
	l.workers.Wait()
	if first {
		return l.conn.Close()
	}
	return nil
}

// absence is of a method that the sidecar is too old to have, until it is connected to again: another one may be there then.
type absence struct{ dials atomic.Int64 }

// note is told what a call of the method has failed with, or nil; true when it says that there is none.
func (a *absence) note(l *link, err error) bool {
	if !errors.Is(err, ErrNotSupported) {
		return false
	}
	a.dials.Store(l.dials.Load())
	return true
}

// known says whether the sidecar that is connected now is known not to have the method.
func (a *absence) known(l *link) bool { return a.dials.Load() != 0 && a.dials.Load() == l.dials.Load() }

func (l *link) closedError() error { return newError(ErrClosed, "this client has been closed") }

// failure is the typed error of a call that failed. ctx is the app's, name what it was doing.
func (l *link) failure(ctx context.Context, err error, name string) error {
	var typed *Error
	if errors.As(err, &typed) {
		return err
	}
	if l.ctx.Err() != nil {
		return l.closedError()
	}
	if ctx.Err() != nil && status.Code(err) != codes.OK {
		if code := status.Code(err); code == codes.Canceled || code == codes.DeadlineExceeded {
			return ofContext(ctx, name)
		}
	}
	if errors.Is(err, io.EOF) {
		return ended(err, name)
	}
	ended, ok := status.FromError(err)
	if !ok {
		return &Error{Kind: ErrInternalError, Message: err.Error(), cause: err}
	}
	failure := fromStatus(ended)
	if failure.Kind == ErrSidecarUnavailable {
		failure.Message = "no sidecar answers at " + l.target.text + ": " + failure.Message
	}
	return failure
}

// pauses are the times between tries: doubling, and jittered so that many clients do not come all at once.
type pauses struct{ next time.Duration }

func (p *pauses) reset() { p.next = 0 }

func (p *pauses) pause() time.Duration {
	p.next = min(max(2*p.next, firstPause), lastPause)
	return p.next/2 + rand.N(p.next/2)
}

// sleep waits; it returns early, with an error, when the app's context ends or the client is closed.
func (l *link) sleep(ctx context.Context, pause time.Duration, name string) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ofContext(ctx, name)
	case <-l.ctx.Done():
		return l.closedError()
	}
}

// join is ctx, ending also when the client is closed. The caller must call the function that it returns.
func (l *link) join(ctx context.Context) (context.Context, context.CancelFunc) {
	joined, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.ctx, cancel)
	return joined, func() {
		stop()
		cancel()
	}
}

// begin opens a call, waiting for the connection until the given time. What fails here has not reached the sidecar:
// then the error is ErrSidecarUnavailable, or that of ctx. ctx must be one of join's, app the one it was made of.
func (l *link) begin(
	ctx, app context.Context, desc *grpc.StreamDesc, method, name string, until time.Time,
) (grpc.ClientStream, error) {
	began := time.Now()
	var wait pauses
	for {
		waiting, giveUp := context.WithCancel(ctx)
		timer := time.AfterFunc(time.Until(until), giveUp)
		stream, err := l.conn.NewStream(waiting, desc, method, grpc.WaitForReady(true))
		inTime := timer.Stop()
		if err == nil && inTime {
			return stream, nil // the call goes on under `waiting`, a child of ctx, and is released with that
		}
		giveUp()
		if err == nil {
			err = status.Error(codes.Canceled, "the connection came too late")
		}
		if l.ctx.Err() != nil {
			return nil, l.closedError()
		}
		deadline, bounded := app.Deadline()
		switch {
		case app.Err() != nil && !errors.Is(app.Err(), context.DeadlineExceeded):
			return nil, ofContext(app, name)
		case !inTime || app.Err() != nil:
			failure := newError(ErrSidecarUnavailable, "no sidecar answers at %s: waited %.1f s for it: %s",
				l.target.text, time.Since(began).Seconds(), status.Convert(err).Message())
			failure.Code, failure.status = codes.Unavailable, status.Convert(err)
			if bounded && !time.Now().Before(deadline) {
				failure.cause = context.DeadlineExceeded
			}
			return nil, failure
		case status.Code(err) != codes.Unavailable:
			return nil, l.failure(app, err, name)
		}
		_ = l.sleep(app, min(wait.pause(), time.Until(until)), name) // the next try finds out what has ended meanwhile
	}
}

// bound is until when a call waits for a sidecar that is not there: the deadline, else 10 s from now.
func bound(ctx context.Context) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		return deadline
	}
	return time.Now().Add(patience)
}

// repeatable says which calls may be made again after they may have reached the sidecar.
type repeatable bool

const (
	once  repeatable = false
	again repeatable = true // it only reads, or carries an id that makes a repeat safe
)

// unary makes a call with one request and one response.
func (l *link) unary(ctx context.Context, method string, request, response any, repeat repeatable) error {
	_, err := l.reach(ctx, method, request, response, repeat)
	return err
}

// reach is unary, and tells as well whether the request may have reached the sidecar.
func (l *link) reach(
	ctx context.Context, method string, request, response any, repeat repeatable,
) (reached bool, err error) {
	if l.ctx.Err() != nil {
		return false, l.closedError()
	}
	name := method[len(servicePrefix):]
	if err := checkRequest(request); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, ofContext(ctx, name)
	}
	until := bound(ctx)
	var wait pauses
	for {
		sent, err := l.attempt(ctx, method, name, request, response, until)
		reached = reached || sent
		if err == nil || repeat == once || !lost(err) || l.ctx.Err() != nil || ctx.Err() != nil || !time.Now().Before(until) {
			return reached, err
		}
		l.logger.Debug("sidecar call failed; trying again", "method", name, "error", err)
		if l.sleep(ctx, min(wait.pause(), time.Until(until)), name) != nil {
			return reached, err
		}
	}
}

func (l *link) attempt(
	ctx context.Context, method, name string, request, response any, until time.Time,
) (sent bool, err error) {
	joined, release := l.join(ctx)
	defer release()
	call, err := l.begin(joined, ctx, unaryCall, method, name, until)
	if err != nil {
		return false, err
	}
	if err := call.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // EOF: RecvMsg knows why
		return true, l.failure(ctx, err, name)
	}
	if err := call.RecvMsg(response); err != nil {
		return true, l.failure(ctx, err, name)
	}
	return true, nil
}

// await waits for the sidecar to answer for the first time.
func (l *link) await(ctx context.Context, wait time.Duration) error {
	const name = "connecting"
	began := time.Now()
	until := began.Add(wait)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	var rest pauses
	for {
		err := l.hello(ctx, wait, until)
		if err == nil {
			return nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return ofContext(ctx, name)
		}
		if !lost(err) && !errors.Is(err, ErrDeadlineExceeded) || l.ctx.Err() != nil {
			return err
		}
		if time.Now().Before(until) && l.sleep(ctx, min(rest.pause(), time.Until(until)), name) == nil {
			continue
		}
		last := err.Error()
		var typed *Error
		if errors.As(err, &typed) && typed.status != nil {
			last = typed.status.Message()
		}
		failure := newError(ErrSidecarUnavailable, "no sidecar answers at %s (%s): tried for %.1f s, %d times; the last time: %s%s",
			l.target.text, l.target.origin, time.Since(began).Seconds(), l.dials.Load(), last, l.target.missing())
		failure.Code = codes.Unavailable
		if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
			failure.cause = context.DeadlineExceeded
		}
		return failure
	}
}

// hello asks the sidecar for anything; it has a second to answer, however short the wait for the connection is.
func (l *link) hello(ctx context.Context, wait time.Duration, until time.Time) error {
	attempt, cancel := context.WithDeadline(ctx, time.Now().Add(max(time.Second, time.Until(until))))
	defer cancel()
	const method = sidecarv1.NodeService_GetNode_FullMethodName
	request, response := &sidecarv1.GetNodeRequest{}, &sidecarv1.GetNodeResponse{}
	if wait > 0 {
		_, err := l.attempt(attempt, method, method, request, response, until)
		return err
	}
	if err := l.conn.Invoke(attempt, method, request, response); err != nil {
		return l.failure(attempt, err, method)
	}
	return nil
}
