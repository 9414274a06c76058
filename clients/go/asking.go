package sidecar

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const (
	askManyPeer      = 1
	askManyProtocol  = 2
	askManyRequests  = 3
	askManyWithdrawn = 4

	mostOpen = 1000 // the sidecar reads on only below 1024, and must hear what is withdrawn
)

// asking makes requests. The first goes by the unary method; those that are made meanwhile or later share a call to RequestMany,
// which stays open. What is asked while a frame is written goes in the next one. Where calls are not to be kept, it ends when
// nobody waits, and a request that is alone goes by the unary method. So it does where the sidecar has no such call, or has
// just ended it.
type asking struct {
	link *link

	mu        sync.Mutex
	alone     bool    // one is under way by the unary method
	followed  bool    // one has gone by it: the next opens the shared call
	absent    absence // of the shared call
	running   bool    // the shared call is there, or on its way
	number    uint64
	queue     []*question          // not written
	open      map[uint64]*question // written, not answered
	gone      int                  // of the queue: those that have given up, since they were last swept out
	room      quota
	withdrawn []uint64
	changed   chan struct{} // signalled when there is something to write, or nobody waits
}

// question is a request on its way.
type question struct {
	target   sendKey
	data     []byte // nil once it is over
	trace    string
	deadline time.Time
	number   uint64
	cost     int
	over     bool // answered or given up
	answer   []byte
	err      error
	done     chan struct{}
}

func newAsking(l *link) *asking {
	return &asking{link: l, open: make(map[uint64]*question), changed: make(chan struct{}, 1)}
}

// ask makes one request.
func (a *asking) ask(ctx context.Context, target sendKey, data []byte, trace string) ([]byte, error) {
	a.mu.Lock()
	if len(data) > min(aloneBytes, a.link.bounds().largest) {
		a.mu.Unlock()
		return a.askAlone(ctx, target, data, trace)
	}
	if !a.alone && !a.running && !a.followed {
		a.alone = true
		a.mu.Unlock()
		answer, err := a.askAlone(ctx, target, data, trace)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.alone = false
		a.followed = err == nil && a.link.keeps && !a.absent.known(a.link)
		return answer, err
	}
	answer, err := a.askWithOthers(ctx, target, data, trace)
	a.mu.Unlock()
	if errors.Is(err, errNoSharedCall) {
		return a.askAlone(ctx, target, data, trace)
	}
	return answer, err
}

// errNoSharedCall is given to requests that a sidecar without the shared call has not seen.
var errNoSharedCall = errors.New("the sidecar has no shared call")

// askWithOthers makes a request over the shared call; locked.
func (a *asking) askWithOthers(ctx context.Context, target sendKey, data []byte, trace string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, ofContext(ctx, "asking")
	}
	if err := a.room.take(ctx, &a.mu, a.link, costOf(data), "asking"); err != nil {
		return nil, err
	}
	asked := &question{target: target, data: data, trace: trace, number: a.number, cost: costOf(data), done: make(chan struct{})}
	asked.deadline, _ = ctx.Deadline()
	if !a.running {
		if !a.link.spawn(a.run) {
			a.room.give(costOf(data))
			return nil, a.link.closedError()
		}
		a.running, a.followed = true, false
	}
	a.number++
	a.queue = append(a.queue, asked)
	signal(a.changed)
	a.mu.Unlock()
	select {
	case <-asked.done:
		a.mu.Lock()
	case <-ctx.Done():
		a.mu.Lock()
		a.giveUp(asked, ofContext(ctx, "asking"))
	}
	return asked.answer, asked.err
}

func (a *asking) askAlone(ctx context.Context, target sendKey, data []byte, trace string) ([]byte, error) {
	var response sidecarv1.RequestResponse
	request := &sidecarv1.RequestRequest{
		PeerId: target.peerID, Protocol: target.protocol, Data: data, Traceparent: trace,
	}
	err := a.link.unary(ctx, sidecarv1.DirectService_Request_FullMethodName, request, &response, once)
	if err != nil {
		return nil, err
	}
	return response.GetData(), nil
}

// giveUp ends a request whose caller has gone; locked.
func (a *asking) giveUp(asked *question, err error) {
	if asked.over {
		return
	}
	if a.open[asked.number] == asked {
		a.withdrawn = append(a.withdrawn, asked.number)
	} else {
		a.gone++
	}
	a.settle(asked, nil, err)
	if a.gone > mostGone && a.gone > len(a.queue)/2 { // where the sidecar hangs, they must not pile up
		a.gone = 0
		a.queue = slices.DeleteFunc(a.queue, func(one *question) bool { return one.over })
	}
	signal(a.changed)
}

// settle gives a request its answer or its error; locked.
func (a *asking) settle(asked *question, answer []byte, err error) {
	delete(a.open, asked.number)
	asked.over, asked.data, asked.answer, asked.err = true, nil, answer, err
	close(asked.done)
	a.room.give(asked.cost)
}

// run is the shared call, and another one where requests were not written before it was lost.
func (a *asking) run() {
	var wait pauses
	for {
		err := a.transact()
		a.mu.Lock()
		if a.absent.note(a.link, err) {
			err = errNoSharedCall
		}
		for _, asked := range a.open { // they may have been answered: nothing is asked again
			a.settle(asked, nil, err)
		}
		a.withdrawn = nil
		waits := false
		for _, asked := range a.queue {
			if !asked.over && err != nil && !lost(err) {
				a.settle(asked, nil, err)
			}
			waits = waits || !asked.over
		}
		if !waits {
			a.queue, a.running = nil, false
		}
		a.mu.Unlock()
		if !waits {
			return
		}
		if err != nil && lost(err) {
			_ = a.link.sleep(context.Background(), wait.pause(), "")
		}
	}
}

// transact makes one call, for as long as anybody waits, or until it ends where it is kept open; the error is why it ended.
func (a *asking) transact() error {
	const method, name = sidecarv1.DirectService_RequestMany_FullMethodName, "asking"
	ctx, release := a.link.join(context.Background())
	defer release()
	call, err := a.link.begin(ctx, context.Background(), bothStreamCall, method, name, bound(context.Background()))
	if err != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, asked := range a.queue { // no sidecar came in time, for any of them
			if !asked.over {
				a.settle(asked, nil, err)
			}
		}
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- a.read(call)
		signal(a.changed)
	}()
	a.link.learnOnce(call) // what is over the sidecar's bound would end the call for all
	for {
		frame, asked, more := a.frame()
		if len(frame) > 0 {
			if call.SendMsg(frame) != nil {
				a.takeBack(asked)
				break // the reader learns why
			}
			continue
		}
		if !more && !a.link.keeps {
			release()
			<-ended
			return nil
		}
		select {
		case err := <-ended:
			return a.link.failure(context.Background(), err, name)
		case <-a.changed:
		}
	}
	return a.link.failure(context.Background(), <-ended, name)
}

// takeBack is told of requests that did not leave, since the call had ended.
func (a *asking) takeBack(asked []*question) {
	a.mu.Lock()
	defer a.mu.Unlock()
	back := slices.DeleteFunc(asked, func(one *question) bool { return one.over })
	for _, one := range back {
		delete(a.open, one.number)
	}
	a.queue = slices.Concat(back, a.queue)
}

// frame is what is to be written now: requests to one peer, and what is withdrawn. more is false when nobody waits.
func (a *asking) frame() (frame encoded, framed []*question, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var target sendKey
	most := a.link.bounds()
	size, count, taken := 0, 0, 0
	for _, asked := range a.queue {
		if !asked.over && len(asked.data) > most.largest {
			a.settle(asked, nil, most.tooLarge(len(asked.data)))
		}
		if !asked.over {
			full := count == most.messages || count > 0 && size+len(asked.data) > most.bytes
			if full || count > 0 && asked.target != target || len(a.open) >= mostOpen {
				break
			}
			if count == 0 {
				target = asked.target
				frame = appendText(appendText(frame, askManyPeer, target.peerID), askManyProtocol, target.protocol)
			}
			frame = appendRequest(frame, asked)
			size += len(asked.data)
			count++
			a.open[asked.number] = asked
			framed = append(framed, asked)
		}
		taken++
	}
	clear(a.queue[:taken])
	if a.queue = a.queue[taken:]; len(a.queue) == 0 {
		a.queue = nil
	}
	for _, number := range a.withdrawn {
		frame = protowire.AppendVarint(protowire.AppendTag(frame, askManyWithdrawn, protowire.VarintType), number)
	}
	a.withdrawn = nil
	return frame, framed, len(frame) > 0 || len(a.queue) > 0 || len(a.open) > 0
}

func appendRequest(frame encoded, asked *question) encoded {
	inner := make([]byte, 0, len(asked.data)+48)
	inner = appendBytes(appendNumber(inner, 1, asked.number), 2, asked.data)
	if !asked.deadline.IsZero() {
		left := max(time.Until(asked.deadline), time.Millisecond)
		duration := appendNumber(nil, 1, uint64(left/time.Second))
		inner = protowire.AppendTag(inner, 3, protowire.BytesType)
		inner = protowire.AppendBytes(inner, appendNumber(duration, 2, uint64(left%time.Second)))
	}
	inner = appendText(inner, 4, asked.trace)
	return protowire.AppendBytes(protowire.AppendTag(frame, askManyRequests, protowire.BytesType), inner)
}

// read hands out results until the call ends, and says why it did.
func (a *asking) read(call grpc.ClientStream) error {
	for {
		var response sidecarv1.RequestManyResponse
		if err := call.RecvMsg(&response); err != nil {
			return err
		}
		a.mu.Lock()
		full := len(a.open) >= mostOpen
		for _, result := range response.GetResults() {
			if asked := a.open[result.GetId()]; asked != nil {
				a.settle(asked, result.GetData(), statusOf(result))
			}
		}
		if len(a.open) == 0 || full {
			signal(a.changed)
		}
		a.mu.Unlock()
	}
}

// statusOf is the typed error of a result; nil of an answer.
func statusOf(result *sidecarv1.RequestResult) error {
	encodedStatus, ok := result.GetResult().(*sidecarv1.RequestResult_Status)
	if !ok {
		return nil
	}
	var message spb.Status
	if err := proto.Unmarshal(encodedStatus.Status, &message); err != nil {
		return malformed(errors.New("a status that is none"))
	}
	return fromStatus(status.FromProto(&message))
}
