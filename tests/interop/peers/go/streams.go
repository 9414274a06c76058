package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	sinkProtocol   = "/interop/sink/1"
	sourceProtocol = "/interop/source/1"
	countSize      = 8
	chunkSize      = 64 << 10
	acceptQueue    = 1024
)

// streams are those that a test drives by number.
type streams struct {
	mutex    sync.Mutex
	next     int64
	open     map[int64]network.Stream
	accepted map[string]chan network.Stream
}

func newStreams() *streams {
	return &streams{open: map[int64]network.Stream{}, accepted: map[string]chan network.Stream{}}
}

func (s *streams) add(stream network.Stream) int64 {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.next++
	s.open[s.next] = stream
	return s.next
}

func (s *streams) get(number int64) (network.Stream, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	stream, known := s.open[number]
	if !known {
		return nil, fmt.Errorf("no stream %d", number)
	}
	return stream, nil
}

func openTo(ctx context.Context, n *node, peerID, protocolID string) (network.Stream, error) {
	target, err := peer.Decode(peerID)
	if err != nil {
		return nil, err
	}
	return n.host.NewStream(ctx, target, protocol.ID(protocolID))
}

func streamOpen(ctx context.Context, n *node, cmd *command) (object, error) {
	stream, err := openTo(ctx, n, cmd.PeerID, cmd.Protocol)
	if err != nil {
		return nil, err
	}
	return object{"stream": n.streams.add(stream)}, nil
}

func streamAccept(ctx context.Context, n *node, cmd *command) (object, error) {
	n.streams.mutex.Lock()
	queue, known := n.streams.accepted[cmd.Protocol]
	if !known {
		queue = make(chan network.Stream, acceptQueue)
		n.streams.accepted[cmd.Protocol] = queue
		n.host.SetStreamHandler(protocol.ID(cmd.Protocol), func(stream network.Stream) { queue <- stream })
	}
	n.streams.mutex.Unlock()
	select {
	case stream := <-queue:
		return object{"stream": n.streams.add(stream), "peer_id": stream.Conn().RemotePeer().String()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func streamWrite(_ context.Context, n *node, cmd *command) (object, error) {
	stream, err := n.streams.get(cmd.Stream)
	if err != nil {
		return nil, err
	}
	_, err = stream.Write(cmd.Data)
	return nil, err
}

func streamRead(_ context.Context, n *node, cmd *command) (object, error) {
	stream, err := n.streams.get(cmd.Stream)
	if err != nil {
		return nil, err
	}
	data := make([]byte, cmd.Size)
	count, err := io.ReadFull(stream, data)
	answer := object{"data": data[:count], "end": false}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		answer["end"] = true
	case errors.Is(err, network.ErrReset):
		answer["reset"] = true
	default:
		return nil, err
	}
	return answer, nil
}

func streamCloseWrite(_ context.Context, n *node, cmd *command) (object, error) {
	stream, err := n.streams.get(cmd.Stream)
	if err != nil {
		return nil, err
	}
	return nil, stream.CloseWrite()
}

func streamReset(_ context.Context, n *node, cmd *command) (object, error) {
	stream, err := n.streams.get(cmd.Stream)
	if err != nil {
		return nil, err
	}
	return nil, stream.Reset()
}

func streamsReset(ctx context.Context, n *node, cmd *command) (object, error) {
	for range cmd.Count {
		stream, err := openTo(ctx, n, cmd.PeerID, echoProtocol)
		if err != nil {
			return nil, err
		}
		defer stream.Reset()
		if _, err := stream.Write([]byte{'?'}); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(stream, make([]byte, 1)); err != nil { // the remote has it
			return nil, err
		}
	}
	return object{"opened": cmd.Count}, nil
}

func newStreamsOp(ctx context.Context, n *node, cmd *command) (object, error) {
	data := make([]byte, 100)
	start := time.Now()
	for range cmd.Count {
		stream, err := openTo(ctx, n, cmd.PeerID, echoProtocol)
		if err != nil {
			return nil, err
		}
		if _, err := stream.Write(data); err != nil {
			return nil, err
		}
		if err := stream.CloseWrite(); err != nil {
			return nil, err
		}
		if _, err := io.ReadAll(stream); err != nil {
			return nil, err
		}
	}
	return object{"seconds": time.Since(start).Seconds()}, nil
}

func bulk(ctx context.Context, n *node, cmd *command) (object, error) {
	start := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- sendBulk(ctx, n, cmd) }()
	err := errors.Join(receiveBulk(ctx, n, cmd), <-sent)
	return object{"seconds": time.Since(start).Seconds(), "sent": cmd.Send, "received": cmd.Receive}, err
}

func sendBulk(ctx context.Context, n *node, cmd *command) error {
	if cmd.Send == 0 {
		return nil
	}
	stream, err := openTo(ctx, n, cmd.PeerID, sinkProtocol)
	if err != nil {
		return err
	}
	if err := write(stream, cmd.Send); err != nil {
		return err
	}
	var answer [countSize]byte
	if _, err := io.ReadFull(stream, answer[:]); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(answer[:]); got != uint64(cmd.Send) {
		return fmt.Errorf("%d of %d bytes arrived", got, cmd.Send)
	}
	return stream.Close()
}

func receiveBulk(ctx context.Context, n *node, cmd *command) error {
	if cmd.Receive == 0 {
		return nil
	}
	stream, err := openTo(ctx, n, cmd.PeerID, sourceProtocol)
	if err != nil {
		return err
	}
	if _, err := stream.Write(binary.BigEndian.AppendUint64(nil, uint64(cmd.Receive))); err != nil {
		return err
	}
	got, err := io.CopyBuffer(io.Discard, onlyReader{stream}, make([]byte, chunkSize))
	if err == nil && got != cmd.Receive {
		err = fmt.Errorf("%d of %d bytes arrived", got, cmd.Receive)
	}
	return errors.Join(err, stream.Close())
}

// onlyReader hides other methods, so that io.CopyBuffer uses its buffer.
type onlyReader struct{ io.Reader }

// write sends so many bytes and ends our direction.
func write(stream network.Stream, size int64) error {
	chunk := make([]byte, chunkSize)
	for size > 0 {
		count, err := stream.Write(chunk[:min(int64(len(chunk)), size)])
		if err != nil {
			return err
		}
		size -= int64(count)
	}
	return stream.CloseWrite()
}

func handleSink(stream network.Stream) {
	count, err := io.CopyBuffer(io.Discard, onlyReader{stream}, make([]byte, chunkSize))
	if err == nil {
		_, err = stream.Write(binary.BigEndian.AppendUint64(nil, uint64(count)))
	}
	end(stream, err)
}

func handleSource(stream network.Stream) {
	var count [countSize]byte
	_, err := io.ReadFull(stream, count[:])
	if err == nil {
		err = write(stream, int64(binary.BigEndian.Uint64(count[:])))
	}
	end(stream, err)
}

func end(stream network.Stream, err error) {
	if err != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}
