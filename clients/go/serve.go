package sidecar

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	defaultConcurrency = 256
	refusalBytes       = 1024 // the API's bound
)

// Handler answers a request. Its context ends when nobody waits for the answer any more: the asker cancelled, its time is
// over, or the sidecar is gone. [Refuse] makes the error that refuses with a text. However else a handler ends, its asker is
// refused at once and the log says why: any other error, a panic, [runtime.Goexit], a response over the sidecar's bound. Others
// are served on.
type Handler func(ctx context.Context, request *Request) ([]byte, error)

// Server answers requests of some protocols. It outlives the sidecar's restarts: then it registers anew, and handlers of
// requests from before are cancelled.
type Server struct {
	feed    feed
	handler Handler
	done    chan struct{}
	failure error // what ended it, once done

	handlers sync.WaitGroup

	mu        sync.Mutex
	answers   *answers // of the present call
	running   int
	waiting   []*asked
	rejected  atomic.Uint64
	known     map[uint64]*asked // of the present call, waiting or running
	room      chan struct{}     // signalled when fewer wait
	most      int
	draining  bool          // new requests are refused
	finishing bool          // and all others have been answered
	idle      chan struct{} // signalled when no handler runs while it drains
}

// asked is a request on its way to its handler and back.
type asked struct {
	id      uint64
	request *Request
	ctx     context.Context
	cancel  context.CancelFunc
	answers *answers
}

// Serve answers requests of some protocols, 1 to 64, with a handler, each in a goroutine of its own. It returns when
// requests can arrive; ErrAlreadyExists when somebody else serves one of the protocols. ctx holds for its whole life.
func (c *Client) Serve(
	ctx context.Context, protocols []string, handler Handler, options ...ServeOption,
) (*Server, error) {
	chosen := callSettings{concurrency: defaultConcurrency}
	for _, option := range options {
		option.serve(&chosen)
	}
	if handler == nil {
		return nil, badField("handler", "there is no handler")
	}
	if chosen.concurrency < 1 {
		return nil, badField("concurrency", "at least one handler must run, not %d", chosen.concurrency)
	}
	made := &Server{
		handler: handler,
		done:    make(chan struct{}),
		known:   make(map[uint64]*asked),
		room:    make(chan struct{}, 1),
		idle:    make(chan struct{}, 1),
		most:    chosen.concurrency,
	}
	made.feed = feed{
		link:    c.link,
		name:    "serving " + strings.Join(protocols, ", "),
		method:  sidecarv1.DirectService_Serve_FullMethodName,
		desc:    bothStreamCall,
		first:   func() any { return &sidecarv1.ServeRequest{Protocols: protocols} },
		opened:  made.opened,
		over:    made.over,
		another: made.another,
	}
	if err := made.feed.start(ctx); err != nil {
		return nil, err
	}
	if !c.link.spawn(made.serve) {
		made.feed.close()
		made.over()
		return nil, c.link.closedError()
	}
	return made, nil
}

// Rejected is how many answers could not be taken so far, such as those over the bound on payloads. Their askers were refused;
// the log says why.
func (s *Server) Rejected() uint64 { return s.rejected.Load() }

// reject counts and logs an answer that could not be taken.
func (s *Server) reject(reason string) {
	s.rejected.Add(1)
	s.feed.link.logger.Error("an answer was not taken", "stream", s.feed.name, "reason", reason)
}

// Done is closed when the server has ended and no handler runs any more.
func (s *Server) Done() <-chan struct{} { return s.done }

// Wait waits until the server has ended: nil when it was closed, else why.
func (s *Server) Wait() error {
	<-s.done
	return s.failure
}

// Close ends the server: its protocols are no longer served, its handlers are cancelled, and it waits for them to return.
// Not to be called by a handler.
func (s *Server) Close() error {
	s.feed.close()
	<-s.done
	return nil
}

// Shutdown ends the server in order: handlers that run, or wait for their turn, answer, new requests are refused, and once
// the sidecar has all answers its protocols are no longer served. When ctx ends first, what still runs is cancelled as by
// Close, and the error is ctx's. Not to be called by a handler.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	busy := s.running > 0
	s.mu.Unlock()
	signal(s.room)
	for busy {
		select {
		case <-s.idle:
			s.mu.Lock()
			busy = s.running > 0
			s.mu.Unlock()
		case <-s.done:
			return nil
		case <-ctx.Done():
			_ = s.Close()
			return ofContext(ctx, s.feed.name)
		}
	}
	s.feed.finish()
	s.mu.Lock()
	s.finishing = true
	answers := s.answers
	s.mu.Unlock()
	if answers == nil { // the sidecar is gone: nobody waits
		return s.Close()
	}
	answers.finish()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		_ = s.Close()
		return ofContext(ctx, s.feed.name)
	}
}

// opened is told that a call is in force, and its first request written.
func (s *Server) opened(made *call) {
	writing := &answers{call: made, limits: &s.feed.link.limits, some: make(chan struct{}, 1)}
	s.mu.Lock()
	s.answers = writing
	if s.finishing {
		s.feed.cancel()
	}
	s.mu.Unlock()
	s.handlers.Add(1)
	go func() {
		defer s.handlers.Done()
		writing.write()
	}()
}

// over is told that a call has ended: nobody waits for the answers to its requests.
func (s *Server) over() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.known {
		request.cancel()
	}
	clear(s.known)
	s.waiting = nil
	if s.answers != nil {
		s.answers.close()
		s.answers = nil
	}
}

// another lets a call be made again beside lost ones.
func (s *Server) another(err error) bool {
	if s.feed.opens == 0 || !errors.Is(err, ErrTooLarge) {
		return false
	}
	// One answer was larger than any call may be: the others go on.
	s.feed.link.logger.Error("an answer was too large for the sidecar", "stream", s.feed.name, "error", err)
	return true
}

// serve reads requests until the feed ends.
func (s *Server) serve() {
	defer close(s.done)
	defer s.handlers.Wait()
	defer s.over()
	defer s.feed.close()
	for {
		var response sidecarv1.ServeResponse
		lost, err := s.feed.next(&response)
		if err != nil {
			if !errors.Is(err, errFeedClosed) {
				s.failure = err
			}
			return
		}
		if lost {
			continue
		}
		for _, rejected := range response.GetRejected() {
			s.reject(rejected.GetReason())
		}
		s.mu.Lock()
		for _, id := range response.GetWithdrawn() {
			s.withdraw(id)
		}
		for _, message := range response.GetRequests() {
			s.take(message)
		}
		full := s.full()
		s.mu.Unlock()
		for full {
			select {
			case <-s.room:
			case <-s.feed.ctx.Done():
			}
			s.mu.Lock()
			full = s.full() && s.feed.ctx.Err() == nil
			s.mu.Unlock()
		}
	}
}

// full tells whether no more is to be read: what waits here is bounded, and what is refused does not wait; locked.
func (s *Server) full() bool { return len(s.waiting) >= s.most && !s.draining }

// withdraw ends a request that nobody waits for; the server is locked.
func (s *Server) withdraw(id uint64) {
	request := s.known[id]
	if request == nil {
		return
	}
	request.cancel()
	delete(s.known, id)
	for index, waiting := range s.waiting {
		if waiting == request {
			s.waiting = append(s.waiting[:index], s.waiting[index+1:]...)
			break
		}
	}
}

// take runs a request's handler, or lets it wait; the server is locked.
func (s *Server) take(message *sidecarv1.IncomingRequest) {
	if s.draining {
		text := &sidecarv1.Answer_Refusal{Refusal: "the app is going away"}
		s.answers.add(&sidecarv1.Answer{Id: message.GetId(), Result: text})
		return
	}
	taken := &asked{id: message.GetId(), request: requestOf(message), answers: s.answers}
	if taken.request.TimeLeft > 0 {
		taken.ctx, taken.cancel = context.WithTimeout(s.feed.ctx, taken.request.TimeLeft)
	} else {
		taken.ctx, taken.cancel = context.WithCancel(s.feed.ctx)
	}
	s.known[taken.id] = taken
	if s.running >= s.most {
		s.waiting = append(s.waiting, taken)
		return
	}
	s.running++
	s.handlers.Add(1)
	go s.run(taken)
}

// run answers one request after the other, while some wait.
func (s *Server) run(next *asked) {
	returned := false
	defer func() {
		if !returned { // the handler has ended its goroutine, by runtime.Goexit: another one goes on
			s.feed.link.logger.Error("handler failed", "protocol", next.request.Protocol, "error", "it ended its goroutine")
			if next = s.finish(next, failedAnswer(next)); next != nil {
				s.handlers.Add(1)
				go s.run(next)
			}
		}
		s.handlers.Done()
	}()
	for next != nil {
		returned = false
		answer := s.answer(next)
		returned = true
		next = s.finish(next, answer)
	}
}

// finish gives the answer to a request, and the next one that waits.
func (s *Server) finish(over *asked, answer *sidecarv1.Answer) (next *asked) {
	cancelled := errors.Is(over.ctx.Err(), context.Canceled) // nobody waits, or this server is closing
	over.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[over.id] == over {
		delete(s.known, over.id)
		if !cancelled {
			over.answers.add(answer)
		}
	}
	if len(s.waiting) > 0 {
		next, s.waiting = s.waiting[0], s.waiting[1:]
		signal(s.room)
	} else if s.running--; s.draining && s.running == 0 {
		signal(s.idle)
	}
	return next
}

func refusal(of *asked, text string) *sidecarv1.Answer {
	return &sidecarv1.Answer{Id: of.id, Result: &sidecarv1.Answer_Refusal{Refusal: text}}
}

func failedAnswer(of *asked) *sidecarv1.Answer { return refusal(of, "the app failed to answer") }

// answer calls the handler. What it panics with is logged: one request must not end all others.
func (s *Server) answer(next *asked) (answer *sidecarv1.Answer) {
	logger := s.feed.link.logger
	defer func() {
		if caught := recover(); caught != nil {
			logger.Error("handler failed", "protocol", next.request.Protocol, "panic", fmt.Sprint(caught),
				"stack", string(debug.Stack()))
			answer = failedAnswer(next)
		}
	}()
	data, err := s.handler(next.ctx, next.request)
	most := s.feed.link.bounds().largest // gRPC there would end the call of all others
	var typed *Error
	switch {
	case err == nil && len(data) > most:
		what := fmt.Sprintf("response of %d bytes, at most %d", len(data), most)
		s.reject(what)
		return refusal(next, "the app there gave an answer that cannot be taken: "+what)
	case err == nil:
		return &sidecarv1.Answer{Id: next.id, Result: &sidecarv1.Answer_Data{Data: data}}
	case errors.As(err, &typed) && typed.Kind == ErrRefused:
		return refusal(next, shortened(typed.Message))
	}
	if next.ctx.Err() == nil { // else it was cancelled, and has said so
		logger.Error("handler failed", "protocol", next.request.Protocol, "error", err)
	}
	return failedAnswer(next)
}

// shortened is a refusal as the API takes it.
func shortened(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > refusalBytes {
		text = strings.ToValidUTF8(text[:refusalBytes], "") // a letter that was cut
	}
	if text == "" {
		return "the app refused"
	}
	return text
}

// answers are what one call writes: as many at once as have come while the last ones were written.
type answers struct {
	call   *call
	limits *limits
	some   chan struct{}

	mu      sync.Mutex
	waiting []*sidecarv1.Answer
	closed  bool
	last    bool // nothing is added any more
}

func (a *answers) add(answer *sidecarv1.Answer) {
	a.mu.Lock()
	if !a.last {
		a.waiting = append(a.waiting, answer)
	}
	a.mu.Unlock()
	signal(a.some)
}

// finish lets the sidecar end the call when it has all answers.
func (a *answers) finish() {
	a.mu.Lock()
	a.last = true
	a.mu.Unlock()
	signal(a.some)
}

func (a *answers) close() {
	a.mu.Lock()
	a.closed, a.waiting = true, nil
	a.mu.Unlock()
	signal(a.some)
}

// take is the next request to write, and whether it is the last; false when the call has ended.
func (a *answers) take() (request *sidecarv1.ServeRequest, last, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := a.limits.bounds()
	size, count := 0, 0
	for count < min(len(a.waiting), most.messages) {
		next := a.waiting[count]
		if size += len(next.GetData()) + len(next.GetRefusal()); size > most.bytes && count > 0 {
			break
		}
		count++
	}
	request = &sidecarv1.ServeRequest{Answers: a.waiting[:count:count]}
	a.waiting = a.waiting[count:]
	if len(a.waiting) > 0 {
		signal(a.some)
	}
	return request, a.last && len(a.waiting) == 0, !a.closed
}

func (a *answers) write() {
	for range a.some {
		request, last, more := a.take()
		if !more {
			return
		}
		if len(request.GetAnswers()) > 0 && a.call.SendMsg(request) != nil {
			return // the call has ended, which the reader learns
		}
		if last {
			_ = a.call.CloseSend()
			return
		}
	}
}
