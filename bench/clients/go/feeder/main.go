// The feeder stands in for a sidecar where the stub or the client is to be measured, not the sidecar: it answers the hot
// methods with as little work as can be. `feeder SOCKET` serves until its standard input ends.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/p2p-sidecar/sidecar/clients/go/sidecarv1"
)

const maxMessage = 16 << 20

var inForce = metadata.Pairs("sidecar-stream", "open")

type feeder struct {
	pb.UnimplementedNodeServiceServer
	pb.UnimplementedPubSubServiceServer
	pb.UnimplementedDirectServiceServer
}

func (feeder) GetNode(context.Context, *pb.GetNodeRequest) (*pb.GetNodeResponse, error) {
	return &pb.GetNodeResponse{Node: &pb.Node{PeerId: "feeder", Network: "bench"}}, nil
}

// Subscribe gives what its topic asks for, `feed/SIZE/BATCH`, for as long as it is read: batches of so many messages of
// so many bytes, encoded once.
func (feeder) Subscribe(request *pb.SubscribeRequest, stream grpc.ServerStreamingServer[pb.SubscribeResponse]) error {
	var size, batch int
	if len(request.Topics) != 1 {
		return status.Error(codes.InvalidArgument, "one topic")
	}
	topic := request.Topics[0]
	if _, err := fmt.Sscanf(topic, "feed/%d/%d", &size, &batch); err != nil {
		return status.Error(codes.InvalidArgument, "the topic is feed/SIZE/BATCH")
	}
	if err := stream.SendHeader(inForce); err != nil {
		return err
	}
	cursor := bytes.Repeat([]byte{1}, 16)
	if err := stream.Send(&pb.SubscribeResponse{Cursor: cursor}); err != nil {
		return err
	}
	response := &pb.SubscribeResponse{}
	for range batch {
		response.Messages = append(response.Messages, &pb.TopicMessage{
			Topic:       topic,
			Data:        bytes.Repeat([]byte{7}, size),
			MessageId:   bytes.Repeat([]byte{2}, 32), // as on unsigned topics
			Cursor:      cursor,
			ReceiveTime: timestamppb.Now(),
			Local:       true,
		})
	}
	prepared := &grpc.PreparedMsg{}
	if err := prepared.Encode(stream, response); err != nil {
		return err
	}
	for {
		if err := stream.SendMsg(prepared); err != nil {
			return err
		}
	}
}

func (feeder) Publish(context.Context, *pb.PublishRequest) (*pb.PublishResponse, error) {
	return &pb.PublishResponse{Receipt: &pb.PublishReceipt{
		Outcome:   pb.PublishOutcome_PUBLISH_OUTCOME_SENT,
		MessageId: make([]byte, 32),
		Peers:     1,
	}}, nil
}

func (feeder) PublishMany(stream grpc.BidiStreamingServer[pb.PublishManyRequest, pb.PublishManyResponse]) error {
	if err := stream.SendHeader(inForce); err != nil {
		return err
	}
	var first uint64
	wanted := false
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		count := uint64(len(request.Messages))
		wanted = wanted || request.ReturnMessageIds
		receipt := &pb.PublishReceiptRange{
			First:   first,
			Count:   count,
			Outcome: pb.PublishOutcome_PUBLISH_OUTCOME_SENT,
			Peers:   1,
		}
		if wanted {
			for range count {
				receipt.MessageIds = append(receipt.MessageIds, make([]byte, 32))
			}
		}
		first += count
		if err := stream.Send(&pb.PublishManyResponse{Receipts: []*pb.PublishReceiptRange{receipt}}); err != nil {
			return err
		}
	}
}

func (feeder) Request(_ context.Context, request *pb.RequestRequest) (*pb.RequestResponse, error) {
	return &pb.RequestResponse{Data: request.Data}, nil
}

func (feeder) RequestMany(stream grpc.BidiStreamingServer[pb.RequestManyRequest, pb.RequestManyResponse]) error {
	if err := stream.SendHeader(inForce); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		response := &pb.RequestManyResponse{}
		for _, one := range request.Requests {
			response.Results = append(response.Results, &pb.RequestResult{
				Id:     one.Id,
				Result: &pb.RequestResult_Data{Data: one.Data},
			})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: feeder SOCKET")
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	pb.RegisterNodeServiceServer(server, feeder{})
	pb.RegisterPubSubServiceServer(server, feeder{})
	pb.RegisterDirectServiceServer(server, feeder{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println("serving")
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
