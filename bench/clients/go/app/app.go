package main

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	topic      = "bench"
	ackStream  = "/bench/ack/1"
	direct     = "/bench/direct/1"
	echo       = "/bench/echo/1"
	echoStream = "/bench/stream/echo/1"
	sink       = "/bench/sink/1"
	source     = "/bench/source/1"
	chunk      = 256 << 10
	stamp      = 8 // bytes at a payload's beginning: its number, or when it was sent
)

// fatal ends the app where a measurement would wait in vain.
func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// monotonic reads the clock that all processes of the host share.
func monotonic() int64 {
	var now unix.Timespec
	fatal(unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}

// credit is how many messages are on the way, at most a window.
type credit struct {
	mutex      sync.Mutex
	changed    *sync.Cond
	sent, done uint64
	window     uint64
}

func newCredit() *credit {
	made := &credit{}
	made.changed = sync.NewCond(&made.mutex)
	return made
}

func (c *credit) begin(window int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.window = uint64(window)
}

// take waits for room and gives the next number.
func (c *credit) take() uint64 {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for c.sent-c.done >= c.window {
		c.changed.Wait()
	}
	c.sent++
	return c.sent
}

func (c *credit) reach(done uint64) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.done = done
	c.changed.Broadcast()
}

func (c *credit) empty() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for c.done < c.sent {
		c.changed.Wait()
	}
}

// app is what a benchmark asks of an app: the same loops, whatever the node beside it.
type app struct {
	node   node
	credit *credit

	signed bool // what it publishes

	mutex     sync.Mutex
	received  int // of all subscriptions together
	watching  bool
	latencies []float64
	held      []stream
}

func newApp(beside node) *app { return &app{node: beside, credit: newCredit()} }

func (a *app) ops() map[string]func(order) (object, error) {
	plain := func(op func(order) error) func(order) (object, error) {
		return func(given order) (object, error) { return nil, op(given) }
	}
	return map[string]func(order) (object, error){
		"info":    a.info,
		"connect": plain(func(given order) error { return a.node.connect(given.PeerID, given.Addresses) }),
		"listen":  plain(a.listen), "join": plain(a.join), "flood": a.flood, "pace": plain(a.pace),
		"idle_topics": plain(a.idleTopics), "watch": plain(a.watch), "tally": a.tally,
		"answer": plain(a.answer), "send_each": a.sendEach, "send_many": a.sendMany, "request": a.request,
		"answer_streams": plain(a.answerStreams), "echo": a.echo, "bulk": a.bulk,
		"new_streams": a.newStreams, "open_streams": plain(a.openStreams), "connections": a.connections,
	}
}

func (a *app) info(order) (object, error) {
	id, addresses, err := a.node.info()
	return object{"peer_id": id, "addresses": addresses}, err
}

// ---------------------------------------------------------------- gossip

// listen subscribes, and tells the app of AckTo about each Every messages that all subscriptions have got; a flood's
// count must be a multiple.
func (a *app) listen(given order) error {
	acknowledging, err := a.node.open(given.AckTo, ackStream)
	if err != nil {
		return err
	}
	some := make(chan int, 1)
	go func() {
		for count := range some {
			_, err := acknowledging.Write(binary.BigEndian.AppendUint64(nil, uint64(count)))
			fatal(err)
		}
	}()
	last, counts := 0, make([]int, given.Subscribers)
	took := func(subscriber int, payloads [][]byte) {
		now := monotonic()
		a.mutex.Lock()
		defer a.mutex.Unlock()
		if a.watching {
			for _, data := range payloads {
				a.latencies = append(a.latencies, float64(now-int64(binary.BigEndian.Uint64(data)))/1e6)
			}
		}
		a.received += len(payloads)
		counts[subscriber] += len(payloads)
		if count := slices.Min(counts); count/given.Every > last {
			last = count / given.Every
			select { // the newest is enough
			case <-some:
			default:
			}
			some <- count
		}
	}
	for subscriber := range given.Subscribers {
		each := func(payloads [][]byte) { took(subscriber, payloads) }
		if err := a.node.subscribe([]string{topic}, given.Signed, each); err != nil {
			return err
		}
	}
	return nil
}

// idleTopics subscribes to topics on which nobody says anything.
func (a *app) idleTopics(given order) error {
	names := make([]string, given.Count)
	for number := range names {
		names[number] = fmt.Sprintf("%s/idle/%d", topic, number)
	}
	return a.node.subscribe(names, given.Signed, func([][]byte) {})
}

// join makes it ready to flood: it hears acknowledgements.
func (a *app) join(given order) error {
	a.signed = given.Signed
	return a.node.accept([]string{ackStream}, func(_ string, opened stream) {
		var count [8]byte
		for {
			if _, err := io.ReadFull(opened, count[:]); err != nil {
				return
			}
			a.credit.reach(binary.BigEndian.Uint64(count[:]))
		}
	})
}

// flood publishes, with at most Window messages unacknowledged; it returns once all are acknowledged.
func (a *app) flood(given order) (object, error) {
	a.credit.begin(given.Window)
	tail := random(given.Size)
	began := time.Now()
	err := a.publishing(given, func(messages chan<- []byte) {
		for range given.Count {
			data := slices.Clone(tail)
			binary.BigEndian.PutUint64(data, a.credit.take())
			messages <- data
		}
	})
	return object{"seconds": time.Since(began).Seconds()}, err
}

// pace publishes at a steady rate, each message with the time at which it was sent.
func (a *app) pace(given order) error {
	a.credit.begin(given.Count)
	tail := random(given.Size)
	return a.publishing(given, func(messages chan<- []byte) {
		began := time.Now()
		for number := range given.Count {
			time.Sleep(time.Until(began.Add(time.Duration(float64(number) / given.Rate * 1e9))))
			a.credit.take()
			data := slices.Clone(tail)
			binary.BigEndian.PutUint64(data, uint64(monotonic()))
			messages <- data
		}
	})
}

func (a *app) publishing(given order, fill func(chan<- []byte)) error {
	if err := a.node.known(topic); err != nil {
		return err
	}
	messages := make(chan []byte, given.Window)
	go func() {
		fill(messages)
		close(messages)
	}()
	if err := a.node.publish(topic, a.signed, messages); err != nil {
		return err
	}
	a.credit.empty()
	return nil
}

// watch: from now on messages bring the time at which they were sent.
func (a *app) watch(order) error {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.watching, a.latencies = true, nil
	return nil
}

// tally says how many messages came in all, and how long they took since `watch`.
func (a *app) tally(order) (object, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return object{"received": a.received, "latency_ms": percentiles(a.latencies)}, nil
}

// ---------------------------------------------------------------- direct messages and requests

func (a *app) asker() (asker, error) {
	if found, can := a.node.(asker); can {
		return found, nil
	}
	return nil, errors.New("this node has no direct messages")
}

// answer receives direct messages and echoes requests.
func (a *app) answer(order) error {
	node, err := a.asker()
	if err != nil {
		return err
	}
	return node.answer(direct, echo, func(messages int) {
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.received += messages
	})
}

// sendEach sends direct messages one at a time.
func (a *app) sendEach(given order) (object, error) {
	node, err := a.asker()
	if err != nil {
		return nil, err
	}
	data := random(given.Size)
	return repeat(given.Count, 1, func() error {
		told, err := node.send(given.PeerID, direct, data)
		if err != nil {
			return err
		}
		return told()
	})
}

// sendMany sends direct messages with at most InFlight without a receipt.
func (a *app) sendMany(given order) (object, error) {
	node, err := a.asker()
	if err != nil {
		return nil, err
	}
	type sent struct {
		at   time.Time
		told receipt
	}
	data := random(given.Size)
	waiting := make(chan sent, given.InFlight-1) // one more is waited for
	times := make([]float64, 0, given.Count)
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		for each := range waiting {
			if err := each.told(); err != nil {
				done <- err
				return
			}
			times = append(times, milliseconds(each.at))
		}
		done <- nil
	}()
	for range given.Count {
		at := time.Now()
		told, err := node.send(given.PeerID, direct, data)
		if err != nil {
			return nil, err
		}
		select {
		case waiting <- sent{at, told}:
		case err := <-done:
			return nil, err
		}
	}
	close(waiting)
	if err := <-done; err != nil {
		return nil, err
	}
	return object{"seconds": time.Since(began).Seconds(), "latency_ms": percentiles(times)}, nil
}

// request makes requests that are echoed.
func (a *app) request(given order) (object, error) {
	node, err := a.asker()
	if err != nil {
		return nil, err
	}
	data := random(given.Size)
	return repeat(given.Count, given.InFlight, func() error { return node.request(given.PeerID, echo, data) })
}

// ---------------------------------------------------------------- byte streams

// answerStreams echoes, swallows and sends on streams. Nobody needs the end of the other's direction to go on: with the
// daemon that end takes the answer with it.
func (a *app) answerStreams(order) error {
	return a.node.accept([]string{echoStream, sink, source}, func(protocol string, opened stream) {
		defer func() { _ = opened.Close() }()
		if protocol == echoStream {
			_, _ = io.CopyBuffer(onlyWriter{opened}, onlyReader{opened}, make([]byte, 64<<10))
			return
		}
		size, err := readCount(opened)
		if err != nil {
			return
		}
		if protocol == source {
			_ = write(opened, size)
		} else if count, _ := io.CopyN(io.Discard, opened, int64(size)); count == int64(size) {
			_, _ = opened.Write(binary.BigEndian.AppendUint64(nil, size))
		}
		_, _ = io.Copy(io.Discard, opened) // the other side closes first
	})
}

// onlyReader and onlyWriter hide other methods, so that io.CopyBuffer uses its buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func readCount(from io.Reader) (uint64, error) {
	var count [8]byte
	_, err := io.ReadFull(from, count[:])
	return binary.BigEndian.Uint64(count[:]), err
}

func write(to io.Writer, size uint64) error {
	data := random(chunk)
	for size > 0 {
		count, err := to.Write(data[:min(uint64(len(data)), size)])
		if err != nil {
			return err
		}
		size -= uint64(count)
	}
	return nil
}

// echo sends and gets back on one stream that stays open, with at most InFlight on the way.
func (a *app) echo(given order) (object, error) {
	opened, err := a.node.open(given.PeerID, echoStream)
	if err != nil {
		return nil, err
	}
	defer func() { _ = opened.Close() }()
	data, got := random(given.Size), make([]byte, given.Size)
	if given.InFlight == 1 {
		return repeat(given.Count, 1, func() error { return once(opened, data, got) })
	}
	turns, sent := make(chan struct{}, given.InFlight), make(chan time.Time, given.InFlight)
	written := make(chan error, 1)
	times := make([]float64, 0, given.Count)
	began := time.Now()
	go func() {
		for range given.Count {
			turns <- struct{}{}
			sent <- time.Now()
			if _, err := opened.Write(data); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for range given.Count {
		if _, err := io.ReadFull(opened, got); err != nil {
			return nil, err
		}
		times = append(times, milliseconds(<-sent))
		<-turns
	}
	return object{"seconds": time.Since(began).Seconds(), "latency_ms": percentiles(times)}, <-written
}

func once(opened stream, data, got []byte) error {
	if _, err := opened.Write(data); err != nil {
		return err
	}
	if _, err := io.ReadFull(opened, got); err != nil {
		return err
	}
	if !slices.Equal(data, got) {
		return errUnexpected
	}
	return nil
}

// bulk moves so many bytes each way at the same time, a stream each; the far end has them all when it returns.
func (a *app) bulk(given order) (object, error) {
	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- a.sendBulk(given.PeerID, uint64(given.Send)) }()
	err := errors.Join(a.receiveBulk(given.PeerID, uint64(given.Receive)), <-sent)
	return object{"seconds": time.Since(began).Seconds()}, err
}

func (a *app) sendBulk(peer string, size uint64) error {
	if size == 0 {
		return nil
	}
	opened, err := a.node.open(peer, sink)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	if _, err := opened.Write(binary.BigEndian.AppendUint64(nil, size)); err != nil {
		return err
	}
	if err := write(opened, size); err != nil {
		return err
	}
	count, err := readCount(opened)
	if err == nil && count != size {
		err = fmt.Errorf("%d of %d bytes arrived", count, size)
	}
	return err
}

func (a *app) receiveBulk(peer string, size uint64) error {
	if size == 0 {
		return nil
	}
	opened, err := a.node.open(peer, source)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	if _, err := opened.Write(binary.BigEndian.AppendUint64(nil, size)); err != nil {
		return err
	}
	_, err = io.CopyBuffer(io.Discard, io.LimitReader(opened, int64(size)), make([]byte, chunk))
	return err
}

// newStreams makes echoes of 100 bytes, one after the other, each on a stream of its own.
func (a *app) newStreams(given order) (object, error) {
	data, got := random(100), make([]byte, 100)
	return repeat(given.Count, 1, func() error {
		opened, err := a.node.open(given.PeerID, echoStream)
		if err != nil {
			return err
		}
		return errors.Join(once(opened, data, got), opened.Close())
	})
}

// openStreams opens streams that stay open and idle.
func (a *app) openStreams(given order) error {
	data, got := random(1), make([]byte, 1)
	for range given.Count {
		opened, err := a.node.open(given.PeerID, echoStream)
		if err == nil {
			err = once(opened, data, got) // it is there at the other side, too
		}
		if err != nil {
			return err
		}
		a.held = append(a.held, opened)
	}
	return nil
}

// ---------------------------------------------------------------- connections

// connections connects and disconnects, one at a time.
func (a *app) connections(given order) (object, error) {
	return repeat(given.Count, 1, func() error {
		if err := a.node.connect(given.PeerID, given.Addresses); err != nil {
			return err
		}
		return a.node.disconnect(given.PeerID)
	})
}

// ----------------------------------------------------------------

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.Read(data)
	return data
}

func milliseconds(since time.Time) float64 { return time.Since(since).Seconds() * 1000 }

func percentiles(times []float64) object {
	if len(times) == 0 {
		times = []float64{0}
	}
	ordered := slices.Clone(times)
	slices.SortFunc(ordered, cmp.Compare)
	at := func(part int) float64 { return ordered[min(len(ordered)-1, len(ordered)*part/100)] }
	return object{"p50": at(50), "p99": at(99)}
}

// repeat does something count times, inFlight of them at once, and times each.
func repeat(count, inFlight int, one func() error) (object, error) {
	var left atomic.Int64
	left.Store(int64(count))
	took := make([][]float64, inFlight)
	failed := make(chan error, inFlight)
	began := time.Now()
	for worker := range inFlight {
		go func() {
			times := make([]float64, 0, count/inFlight+1)
			for left.Add(-1) >= 0 {
				at := time.Now()
				if err := one(); err != nil {
					failed <- err
					return
				}
				times = append(times, milliseconds(at))
			}
			took[worker] = times
			failed <- nil
		}()
	}
	for range inFlight {
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	return object{"seconds": time.Since(began).Seconds(), "latency_ms": percentiles(slices.Concat(took...))}, nil
}
