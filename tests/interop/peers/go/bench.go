package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"golang.org/x/sys/unix"
)

const (
	ackProtocol = "/interop/ack/1"
	ackEvery    = 16
	headerSize  = 16
)

// monotonic reads the clock that all processes of the host share.
func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

// tally counts and times the messages of a quiet subscription.
type tally struct {
	acks      network.Stream
	mutex     sync.Mutex
	received  int
	latencies []int64
}

func (t *tally) add(data []byte) {
	if len(data) < headerSize {
		return
	}
	now := monotonic()
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.received++
	t.latencies = append(t.latencies, now-int64(binary.BigEndian.Uint64(data)))
	last := t.received == int(binary.BigEndian.Uint32(data[12:]))
	if t.acks != nil && (last || t.received%ackEvery == 0) {
		// A failure shows at the sender, whose flood ends with a timeout.
		_, _ = t.acks.Write(binary.BigEndian.AppendUint64(nil, uint64(t.received)))
	}
}

func takeTally(_ context.Context, n *node, cmd *command) (object, error) {
	n.mutex.Lock()
	entry, known := n.subscriptions[cmd.Topic]
	n.mutex.Unlock()
	if !known {
		return nil, fmt.Errorf("not subscribed to %s", cmd.Topic)
	}
	entry.tally.mutex.Lock()
	defer entry.tally.mutex.Unlock()
	answer := object{"received": entry.tally.received, "latency_ms": quantiles(entry.tally.latencies)}
	entry.tally.received, entry.tally.latencies = 0, nil
	return answer, nil
}

func quantiles(nanoseconds []int64) object {
	if len(nanoseconds) == 0 {
		return nil
	}
	slices.Sort(nanoseconds)
	at := func(q float64) float64 {
		return float64(nanoseconds[int(q*float64(len(nanoseconds)-1))]) / 1e6
	}
	return object{"p50": at(0.5), "p99": at(0.99), "max": at(1)}
}

// counter is what the receiver acknowledged, with a way to wait for more.
type counter struct {
	mutex   sync.Mutex
	value   int
	changed chan struct{}
}

func newCounter() *counter { return &counter{changed: make(chan struct{})} }

func (c *counter) set(value int) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.value = value
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counter) waitFor(ctx context.Context, value int) error {
	for {
		c.mutex.Lock()
		current, changed := c.value, c.changed
		c.mutex.Unlock()
		if current >= value {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d acknowledged: %w", current, value, ctx.Err())
		}
	}
}

func (n *node) handleAck(stream network.Stream) {
	defer stream.Reset()
	var frame [8]byte
	for {
		if _, err := io.ReadFull(stream, frame[:]); err != nil {
			return
		}
		n.acked.set(int(binary.BigEndian.Uint64(frame[:])))
	}
}

func flood(ctx context.Context, n *node, cmd *command) (object, error) {
	topic, err := n.topic(cmd.Topic)
	if err != nil {
		return nil, err
	}
	if cmd.Size < headerSize {
		return nil, fmt.Errorf("size is at least %d", headerSize)
	}
	n.acked.set(0)
	start := time.Now()
	for i := range cmd.Count {
		if cmd.Rate > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(i) / cmd.Rate * float64(time.Second)))))
		}
		if err := n.acked.waitFor(ctx, i+1-cmd.Window); err != nil {
			return nil, err
		}
		data := make([]byte, cmd.Size)
		binary.BigEndian.PutUint64(data, uint64(monotonic()))
		binary.BigEndian.PutUint32(data[8:], uint32(i))
		binary.BigEndian.PutUint32(data[12:], uint32(cmd.Count))
		if err := topic.Publish(ctx, data); err != nil {
			return nil, err
		}
	}
	if err := n.acked.waitFor(ctx, cmd.Count); err != nil {
		return nil, err
	}
	return object{"seconds": time.Since(start).Seconds()}, nil
}

func echoMany(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.Decode(cmd.PeerID)
	if err != nil {
		return nil, err
	}
	stream, err := n.host.NewStream(ctx, target, echoProtocol)
	if err != nil {
		return nil, err
	}
	defer stream.Reset()
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetDeadline(deadline)
	}
	inFlight := max(cmd.InFlight, 1)
	turns := make(chan struct{}, inFlight)
	sent := make(chan int64, inFlight) // when each was sent
	written := make(chan error, 1)
	start := time.Now()
	go func() {
		data := make([]byte, cmd.Size)
		for range cmd.Count {
			turns <- struct{}{}
			now := monotonic()
			if _, err := stream.Write(data); err != nil {
				written <- err
				close(sent)
				return
			}
			sent <- now
		}
		written <- nil
	}()
	latencies := make([]int64, 0, cmd.Count)
	data := make([]byte, cmd.Size)
	for range cmd.Count {
		if _, err := io.ReadFull(stream, data); err != nil {
			return nil, err
		}
		at, open := <-sent
		if !open {
			return nil, <-written
		}
		latencies = append(latencies, monotonic()-at)
		<-turns
	}
	elapsed := time.Since(start)
	return object{"seconds": elapsed.Seconds(), "latency_ms": quantiles(latencies)},
		errors.Join(<-written, stream.Close())
}

func connections(ctx context.Context, n *node, cmd *command) (object, error) {
	target, err := peer.AddrInfoFromString(cmd.Address)
	if err != nil {
		return nil, err
	}
	n.host.Peerstore().AddAddrs(target.ID, target.Addrs, peerstore.PermanentAddrTTL)
	start := time.Now()
	for range cmd.Count {
		if _, err := n.host.Network().DialPeer(ctx, target.ID); err != nil {
			return nil, err
		}
		if err := n.host.Network().ClosePeer(target.ID); err != nil {
			return nil, err
		}
	}
	return object{"seconds": time.Since(start).Seconds()}, nil
}
