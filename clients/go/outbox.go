package sidecar

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const (
	frameBytes    = 256 << 10 // of payload in one request, where the sidecar takes so much
	frameMessages = 4096
	aloneBytes    = 1 << 20 // what is larger is not sent beside others
)

// outbox gathers single messages into batches: for each key (the topic and its options, or the peer and protocol) at
// most one call is in flight. The first message of a key goes at once, alone; what is called meanwhile or later goes
// together in a bulk call. That stays open for the few keys that were last used; for others, and where calls are not to be
// kept, it ends with its batch, and a message that finds none goes alone. The order of calls is the order on the wire.
type outbox[K comparable, R any] struct {
	link    *link
	bulk    string                                                     // the method of a bulk call
	answer  func(call grpc.ClientStream, each func(receipts[R])) error // reads one response of it
	head    func(buffer []byte, key K) []byte                          // begins the first request of a bulk call
	item    func(buffer []byte, data []byte, id string) []byte         // adds a message to it
	single  func(key K, data []byte, id string) encoded                // the request of the unary method
	alone   func(ctx context.Context, request encoded, repeat repeatable) (receipt R, reached bool, err error)
	waits   func(receipt R) bool  // whether nobody has got it, and the bulk call would have waited
	refused func(receipt R) error // of outcomes that are errors
	verb    string                // what is done with messages here

	mu     sync.Mutex
	lanes  map[K]*lane[R]
	kept   []K     // keys whose calls stay open, or will be opened; that used last is the last
	absent absence // of the bulk call
	room   quota
	used   sync.Pool // of parcels
}

// mostKept is how many keys have calls that stay open; a guess: each is one of the sidecar's calls (api.max_calls).
const mostKept = 8

// receipts are those of consecutive messages of a bulk call; next gives that of one after the other.
type receipts[R any] struct {
	first, count uint64
	next         func() R
}

// lane is what waits for one key. It exists while a call is in flight, or kept open.
type lane[R any] struct {
	waiting []*parcel[R]
	changed chan struct{} // signalled when the first one waits, or the call is to stay open no longer
	gone    int           // of those, or a few more: callers that have given up since they were last swept out
}

// mostGone is how many may wait whose callers have given up before they are swept out, where they are half of all.
const mostGone = 64

// parcel is one message and whoever waits for its receipt. It is used again when neither its caller nor the lane has it any
// more: with ten thousand calls at once, memory for each of them would be most of the work.
type parcel[R any] struct {
	message[R]
	done chan struct{} // where it is kept closed, else given one signal, when it is answered or given up
	kept bool          // whoever has it may ask at any time: it is not used again
	held atomic.Int32  // by how many
}

type message[R any] struct {
	ctx   context.Context
	data  []byte
	id    string
	until time.Time // it is tried again after a lost connection before this

	// guarded by the outbox
	way     *lane[R]
	cost    int
	state   parcelState
	call    *flight // that has written it
	counted bool    // the call has given its receipt, perhaps to nobody
	old     bool    // the sidecar is older than the bulk call: it goes alone
	patient bool    // the unary method said that all queues are full: the bulk call waits
	receipt R
	err     error
}

// tell lets its caller go on; once.
func (p *parcel[R]) tell() {
	if p.kept {
		close(p.done)
	} else {
		p.done <- struct{}{}
	}
}

// release is called by the caller and by the lane when they have done with a parcel.
func (o *outbox[K, R]) release(over *parcel[R]) {
	if over.held.Add(-1) == 0 && !over.kept {
		over.message = message[R]{}
		o.used.Put(over)
	}
}

type parcelState int

const (
	parcelWaiting  parcelState = iota
	parcelWritten              // it may have reached the sidecar
	parcelAnswered             // receipt or err is set
	parcelGone                 // its caller has given up
)

// flight is one call, and who waits for what it has written.
type flight struct {
	cancel  context.CancelFunc
	writing bool // more will be written
	written int
	waiting int  // callers of messages written that have neither been answered nor gone
	gone    int  // of those
	over    bool // cancelled: nothing more goes by it
}

// check cancels the call when nobody waits for it any more.
func (f *flight) check() {
	if f.waiting == 0 && !f.writing && (f.gone > 0 || f.written == 0) {
		f.over = true
		f.cancel()
	}
}

// Pending is a message on its way, and its receipt once there is one.
type Pending[R any] struct {
	done    <-chan struct{}
	receipt func() (R, error)
}

// Done is closed when the receipt is there, or the error.
func (p *Pending[R]) Done() <-chan struct{} { return p.done }

// Wait waits for the receipt. It fails as the method fails that returns without one; its context ends the waiting too.
func (p *Pending[R]) Wait() (R, error) {
	<-p.done
	return p.receipt()
}

// failed is one that has not even begun.
func failed[R any](err error) *Pending[R] {
	done := make(chan struct{})
	close(done)
	return &Pending[R]{done, func() (none R, _ error) { return none, err }}
}

// add sends a message, now or with the next batch, and waits for its receipt.
func (o *outbox[K, R]) add(ctx context.Context, key K, data []byte, id, name string) (none R, _ error) {
	added, err := o.enqueue(ctx, key, data, id, name, false)
	if err != nil {
		return none, err
	}
	if given := ctx.Done(); given == nil {
		<-added.done
	} else {
		select {
		case <-added.done:
		case <-given:
			o.abandon(added, name)
			<-added.done
		}
	}
	receipt, err := added.receipt, added.err
	o.release(added)
	return receipt, err
}

// later is add without the waiting.
func (o *outbox[K, R]) later(ctx context.Context, key K, data []byte, id, name string) *Pending[R] {
	added, err := o.enqueue(ctx, key, data, id, name, true)
	if err != nil {
		return failed[R](err)
	}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { o.abandon(added, name) })
	}
	return &Pending[R]{added.done, func() (R, error) {
		stop()
		return added.receipt, added.err
	}}
}

func (o *outbox[K, R]) enqueue(
	ctx context.Context, key K, data []byte, id, name string, kept bool,
) (*parcel[R], error) {
	if len(id) > 64 || !utf8.ValidString(id) {
		return nil, badField("request_id", "a request id has at most 64 bytes of UTF-8; this one has %d", len(id))
	}
	if ctx.Err() != nil {
		return nil, ofContext(ctx, name)
	}
	var added *parcel[R]
	if kept {
		added = &parcel[R]{done: make(chan struct{}), kept: true}
	} else if used, ok := o.used.Get().(*parcel[R]); ok {
		added = used
	} else {
		added = &parcel[R]{done: make(chan struct{}, 1)}
	}
	added.ctx, added.data, added.id, added.until = ctx, data, id, bound(ctx)
	added.held.Store(2)
	added.cost = costOf(data)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.room.take(ctx, &o.mu, o.link, added.cost, name); err != nil {
		return nil, err
	}
	way := o.lanes[key]
	if way == nil {
		way = &lane[R]{changed: make(chan struct{}, 1)}
		if !o.link.spawn(func() { o.fly(key, way) }) {
			o.room.give(added.cost)
			return nil, o.link.closedError()
		}
		o.lanes[key] = way
	}
	added.way = way
	if way.waiting = append(way.waiting, added); len(way.waiting) == 1 {
		signal(way.changed)
	}
	return added, nil
}

// abandon is told that the context of a message is over.
func (o *outbox[K, R]) abandon(added *parcel[R], name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch added.state {
	case parcelAnswered, parcelGone:
		return
	case parcelWritten:
		added.call.waiting--
		added.call.gone++
		added.call.check()
	}
	o.room.give(added.cost)
	waited := added.state == parcelWaiting
	added.state, added.data, added.err = parcelGone, nil, ofContext(added.ctx, name)
	added.tell()
	if waited {
		o.sweep(added.way)
	}
}

// sweep is told that somebody who waits has given up: where a sidecar hangs and callers come and go, they must not pile up;
// the outbox is locked.
func (o *outbox[K, R]) sweep(way *lane[R]) {
	if way.gone++; way.gone <= mostGone || way.gone <= len(way.waiting)/2 {
		return
	}
	way.gone = 0
	kept := way.waiting[:0]
	for _, one := range way.waiting {
		if one.state == parcelGone {
			o.release(one)
		} else {
			kept = append(kept, one)
		}
	}
	clear(way.waiting[len(kept):])
	way.waiting = kept
}

// fly makes one call after the other until nothing waits.
func (o *outbox[K, R]) fly(key K, way *lane[R]) {
	var wait pauses
	var batch []*parcel[R]
	for {
		batch = o.take(key, way, batch)
		if len(batch) == 0 {
			return
		}
		if batch[0].old {
			for _, one := range batch {
				o.sendAlone(key, way, one)
			}
			continue
		}
		if len(batch) == 1 && !batch[0].patient && !o.keeps(key, batch[0]) {
			o.sendAlone(key, way, batch[0])
			continue
		}
		if o.sendTogether(key, way, batch) {
			wait.reset()
		} else {
			_ = o.link.sleep(context.Background(), wait.pause(), "")
		}
	}
}

// keep notes that a key is used: its call stays open, in place of that of the key that was not used for longest; the outbox
// is locked.
func (o *outbox[K, R]) keep(key K) {
	if !o.link.keeps || o.absent.known(o.link) || len(o.kept) > 0 && o.kept[len(o.kept)-1] == key {
		return
	}
	o.forget(key)
	o.kept = append(o.kept, key)
	if len(o.kept) > mostKept {
		oldest := o.kept[0]
		o.kept = slices.Delete(o.kept, 0, 1)
		if way := o.lanes[oldest]; way != nil {
			signal(way.changed)
		}
	}
}

// forget has the next message of a key go alone, which finds out what there is now; the outbox is locked.
func (o *outbox[K, R]) forget(key K) {
	o.kept = slices.DeleteFunc(o.kept, func(kept K) bool { return kept == key })
}

// keeps says whether a message goes by the bulk call although it is alone.
func (o *outbox[K, R]) keeps(key K, one *parcel[R]) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.kept, key) && len(one.data) <= min(aloneBytes, o.link.bounds().largest)
}

// follow waits for more to write to a call that is kept open. Nothing when there is none to come, for the key was not used
// for longest or what is next goes alone. failure is what has ended the call.
func (o *outbox[K, R]) follow(key K, way *lane[R], made *flight, ended chan error) (batch []*parcel[R], failure error, over bool) {
	for {
		o.mu.Lock()
		if made.over {
			o.mu.Unlock()
			return nil, <-ended, true
		}
		if !slices.Contains(o.kept, key) {
			o.mu.Unlock()
			return nil, nil, false
		}
		if len(way.waiting) > 0 {
			if len(way.waiting[0].data) <= min(aloneBytes, o.link.bounds().largest) {
				batch = o.gather(way, nil)
				made.writing = len(batch) > 0
				o.keep(key)
			}
			o.mu.Unlock()
			return batch, nil, false
		}
		o.mu.Unlock()
		select {
		case failure := <-ended:
			return nil, failure, true
		case <-way.changed:
		}
	}
}

// take is the next batch: everything that waits, but for what is so large that it goes alone. Empty when nothing waits:
// then the lane is gone. The last batch's memory is used for what is to wait.
func (o *outbox[K, R]) take(key K, way *lane[R], last []*parcel[R]) []*parcel[R] {
	clear(last)
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.gather(way, last)
	if len(batch) == 0 {
		delete(o.lanes, key)
	}
	return batch
}

// gather is take without the end of the lane; the outbox is locked.
func (o *outbox[K, R]) gather(way *lane[R], last []*parcel[R]) []*parcel[R] {
	now, large := time.Now(), min(aloneBytes, o.link.bounds().largest)
	var batch []*parcel[R]
	for len(batch) == 0 && len(way.waiting) > 0 {
		waiting := way.waiting
		batch = waiting[:0]
		taken := 0
		for _, next := range waiting {
			if len(batch) > 0 && max(len(next.data), len(batch[0].data)) > large {
				break
			}
			taken++
			switch {
			case next.state == parcelGone:
				o.release(next)
			case o.link.ctx.Err() != nil:
				o.conclude(next, nil, o.link.closedError())
			case next.err != nil && !now.Before(next.until): // a lost connection, and no time left
				o.conclude(next, nil, next.err)
			default:
				batch = append(batch, next)
			}
		}
		way.waiting = append(last[:0], waiting[taken:]...)
		clear(waiting[len(batch):])
		last = nil
	}
	return batch
}

// settle gives a parcel its answer, of which its caller is then to be told if this is true; the outbox is locked.
func (o *outbox[K, R]) settle(settled *parcel[R], receipt *R, err error) bool {
	if settled.state == parcelAnswered || settled.state == parcelGone {
		return false
	}
	if call := settled.call; call != nil && settled.state == parcelWritten {
		call.waiting--
		call.check()
	}
	if receipt != nil {
		settled.receipt, err = *receipt, o.refused(*receipt)
	}
	settled.err, settled.state, settled.data = err, parcelAnswered, nil
	o.room.give(settled.cost)
	return true
}

// conclude settles a parcel, and the lane has done with it; the outbox is locked.
func (o *outbox[K, R]) conclude(over *parcel[R], receipt *R, err error) {
	if o.settle(over, receipt, err) {
		over.tell()
	}
	o.release(over)
}

// putBack lets parcels be sent by the next call, before all that came later; the outbox is locked.
func (o *outbox[K, R]) putBack(way *lane[R], parcels []*parcel[R]) {
	for _, back := range parcels {
		if back.state != parcelGone {
			back.state, back.call = parcelWaiting, nil
		}
	}
	way.waiting = append(append(make([]*parcel[R], 0, len(parcels)+len(way.waiting)), parcels...), way.waiting...)
}

func (o *outbox[K, R]) sendAlone(key K, way *lane[R], one *parcel[R]) {
	o.mu.Lock()
	if one.state == parcelGone {
		o.release(one)
		o.mu.Unlock()
		return
	}
	request := o.single(key, one.data, one.id) // encoded here: the caller may be gone before it is sent
	o.mu.Unlock()
	receipt, reached, err := o.alone(one.ctx, request, one.id != "")
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil && o.waits(receipt) && !one.old:
		o.keep(key)
		one.patient = true
		o.putBack(way, []*parcel[R]{one})
	case err == nil:
		o.keep(key)
		o.conclude(one, &receipt, nil)
	case reached && one.id == "" && lost(err) && o.link.ctx.Err() == nil:
		o.conclude(one, nil, o.doubt(err))
	default:
		o.conclude(one, nil, err)
	}
}

// doubt is the error of a message that may have arrived, and is not safe to send again.
func (o *outbox[K, R]) doubt(err error) error {
	failure := newError(ErrClosed, "the message may have been %s: %v", o.verb, err)
	failure.Code = codes.Unavailable
	return failure
}

// sendTogether sends a batch by one bulk call. What a lost connection leaves without an answer, and is safe to send again,
// waits for the next call. It is false when the connection was lost.
func (o *outbox[K, R]) sendTogether(key K, way *lane[R], batch []*parcel[R]) bool {
	name := o.bulk[len(servicePrefix):]
	ctx, release := o.link.join(context.Background())
	defer release()
	until := batch[0].until
	for _, next := range batch {
		if next.until.Before(until) {
			until = next.until
		}
	}
	call, err := o.link.begin(ctx, context.Background(), bothStreamCall, o.bulk, name, until)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.sort(way, nil, batch, err)
		return false
	}

	o.link.learnOnce(call) // what is over the sidecar's bound would end the call for all

	made := &flight{cancel: release, writing: true}
	var written journal[R]
	ended := make(chan error, 1)
	go func() {
		ended <- o.read(call, &written)
	}()
	rest, over, refused := batch, false, false
	for first := true; !over; first = false {
		buffer := frames.Get(frameBytes)
		if first {
			*buffer = o.head(*buffer, key)
		}
		o.mu.Lock()
		begun := written.end()
		*buffer, rest = o.frame(*buffer, rest, made, &written)
		if len(rest) == 0 {
			made.writing = false
			made.check()
		}
		o.mu.Unlock()
		if len(*buffer) == 0 { // those that are next have all given up
			frames.Put(buffer)
		} else if call.SendMsg(frame{buffer}) != nil {
			refused = true // the reader learns why
			rest = slices.Concat(o.takeBack(made, &written, begun), rest)
			break
		}
		if len(rest) > 0 {
			continue
		}
		if rest, err, over = o.follow(key, way, made, ended); len(rest) == 0 && !over {
			_ = call.CloseSend()
			break
		}
	}
	if !over {
		err = <-ended
	}
	failed := err != nil
	if failed {
		err = o.link.failure(context.Background(), err, name)
	} else {
		err = newError(ErrClosed, "the sidecar ended %s without a receipt", name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if over || refused || failed {
		o.forget(key)
	}
	if o.absent.note(o.link, err) { // of a message, a receipt says so
		for _, next := range slices.Concat(written.parcels, rest) {
			next.old = true
		}
	}
	o.sort(way, written.parcels, rest, err)
	return !lost(err) || len(rest) == 0 && made.waiting == 0
}

// journal is what a call has written and the lane has not done with, by the numbers of the call.
type journal[R any] struct {
	first   uint64 // the number of the first one
	parcels []*parcel[R]
}

// end is the number of the next one.
func (j *journal[R]) end() uint64 { return j.first + uint64(len(j.parcels)) }

// takeBack is the messages of a request that did not leave, since its call had ended: those from a number on. They are not
// written after all.
func (o *outbox[K, R]) takeBack(made *flight, written *journal[R], begun uint64) []*parcel[R] {
	o.mu.Lock()
	defer o.mu.Unlock()
	kept := int(max(begun, written.first) - written.first)
	back := slices.Clone(written.parcels[kept:])
	clear(written.parcels[kept:])
	written.parcels = written.parcels[:kept]
	return slices.DeleteFunc(back, func(one *parcel[R]) bool {
		if one.state == parcelWritten {
			one.state, one.call = parcelWaiting, nil
			made.waiting--
		}
		if one.state == parcelAnswered { // by a sidecar that is faulty
			o.release(one)
			return true
		}
		return false
	})
}

// sort answers what a call has left without a receipt, or puts it back; the outbox is locked. The lane has done with all
// others.
func (o *outbox[K, R]) sort(way *lane[R], written, rest []*parcel[R], err error) {
	var back []*parcel[R]
	for _, next := range written {
		switch {
		case next.state != parcelWritten:
			o.release(next)
		case next.old:
			back = append(back, next)
		case !lost(err):
			o.conclude(next, nil, err)
		case o.link.ctx.Err() != nil:
			o.conclude(next, nil, o.link.closedError())
		case next.id != "":
			next.err = err // where its time is over
			back = append(back, next)
		default:
			o.conclude(next, nil, o.doubt(err))
		}
	}
	for _, next := range rest {
		switch {
		case next.state == parcelGone:
			o.release(next)
		case next.old:
			back = append(back, next)
		case lost(err):
			next.err = err
			back = append(back, next)
		default:
			o.conclude(next, nil, err)
		}
	}
	if len(back) > 0 {
		o.putBack(way, back)
	}
}

// frame adds messages to a request, and notes them as written; the outbox is locked.
func (o *outbox[K, R]) frame(
	buffer []byte, rest []*parcel[R], made *flight, written *journal[R],
) ([]byte, []*parcel[R]) {
	most := o.link.bounds()
	payload, count := 0, 0
	for len(rest) > 0 {
		next := rest[0]
		switch {
		case next.state == parcelGone:
			o.release(next)
		case len(next.data) > most.largest:
			o.conclude(next, nil, most.tooLarge(len(next.data)))
		default:
			if count > 0 && payload+len(next.data) > most.bytes || count == most.messages {
				return buffer, rest
			}
			buffer = o.item(buffer, next.data, next.id)
			payload += len(next.data)
			count++
			next.state, next.call = parcelWritten, made
			made.written++
			made.waiting++
			written.parcels = append(written.parcels, next)
		}
		rest = rest[1:]
	}
	return buffer, rest
}

// read gives receipts to those that wait, until the call ends.
func (o *outbox[K, R]) read(call grpc.ClientStream, written *journal[R]) error {
	var told []*parcel[R]
	for {
		err := o.answer(call, func(known receipts[R]) {
			told = told[:0]
			o.mu.Lock()
			end := written.end()
			for number := known.first; number < known.first+known.count && number < end; number++ {
				receipt := known.next()
				if number < written.first {
					continue
				}
				one := written.parcels[number-written.first]
				one.counted = true
				if o.settle(one, &receipt, nil) {
					told = append(told, one)
				}
			}
			done := 0
			for done < len(written.parcels) && written.parcels[done].counted {
				o.release(written.parcels[done])
				done++
			}
			clear(written.parcels[:done])
			written.parcels, written.first = written.parcels[done:], written.first+uint64(done)
			o.mu.Unlock()
			for _, one := range told { // they come back at once, for the lock
				one.tell()
			}
		})
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
