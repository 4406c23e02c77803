// bitswap is half a Bitswap peer, on go-libp2p and boxo's message codec, for what a whole one does not do:
//
//	bitswap wants MULTIADDR < CIDS     a bare stream of wants: what the peer can send when nothing is checked or kept
//	bitswap serve MODE FILE.car...     a peer that has the blocks and misbehaves: `lie` sends other bytes under their CIDs' prefix,
//	                                   `mute` says HAVE and never sends, `deaf` reads and says nothing, `slow=KIB` sends that much a second
//	bitswap crowd N MULTIADDR          N peers connect and stay, until the input ends
//
// `wants` prints `wants: N blocks, B bytes, S s, M MiB/s`; `serve` prints `multiaddr MA` and `ready`, and at SIGTERM what it counted;
// `crowd` prints `connected N`.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
)

const (
	proto = protocol.ID("/ipfs/bitswap/1.2.0")
	// Wants outstanding at a time: enough that the sender is never without one, less than a wantlist may have.
	window = 512
	// Wants are sent again when this many have come: fewer, larger messages.
	batch = 64
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func node(listen ...string) host.Host {
	h, err := libp2p.New(libp2p.ListenAddrStrings(listen...), libp2p.DisableRelay(), libp2p.DisableMetrics(),
		libp2p.ResourceManager(&network.NullResourceManager{}))
	must(err)
	return h
}

func dial(h host.Host, to string) peer.ID {
	ma, err := multiaddr.NewMultiaddr(to)
	must(err)
	info, err := peer.AddrInfoFromP2pAddr(ma)
	must(err)
	must(h.Connect(context.Background(), *info))
	return info.ID
}

// wants asks for the CIDs in order, `window` at a time, and throws away what comes.
func wants(to string) {
	var cids []cid.Cid
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		c, err := cid.Decode(lines.Text())
		must(err)
		cids = append(cids, c)
	}
	h := node()
	var got, size atomic.Int64
	more, done := make(chan int, 1<<16), make(chan struct{})
	h.SetStreamHandler(proto, func(s network.Stream) {
		defer s.Close() // Kubo opens a stream for each message, and QUIC allows 256 at a time
		in := bufio.NewReaderSize(s, 1<<20)
		for {
			n, err := binary.ReadUvarint(in)
			if err != nil {
				return
			}
			blocks, bytes := payload(in, int(n))
			size.Add(bytes)
			if int(got.Add(int64(blocks))) >= len(cids) {
				close(done)
				return
			}
			more <- blocks
		}
	})
	id := dial(h, to)
	out, err := h.NewStream(context.Background(), id, proto)
	must(err)
	start := time.Now()
	send := func(list []cid.Cid) {
		m := bsmsg.New(false)
		for i, c := range list {
			m.AddEntry(c, int32(len(list)-i), pb.Message_Wantlist_Block, true)
		}
		must(m.ToNetV1(out))
	}
	next := min(window, len(cids))
	send(cids[:next])
	ready := 0
	for {
		select {
		case n := <-more:
			for ready += n; ready >= batch && next < len(cids); ready -= batch {
				end := min(next+batch, len(cids))
				send(cids[next:end])
				next = end
			}
			if int(got.Load()) == next && next < len(cids) {
				end := min(next+window, len(cids))
				send(cids[next:end])
				next = end
			}
		case <-done:
			s := time.Since(start).Seconds()
			fmt.Printf("wants: %d blocks, %d bytes, %.2f s, %.1f MiB/s\n", len(cids), size.Load(), s, float64(size.Load())/s/(1<<20))
			return
		case <-time.After(60 * time.Second):
			log.Fatalf("%d of %d blocks came, then nothing for 60 s", got.Load(), len(cids))
		}
	}
}

// payload walks one message of n bytes without keeping it: how many blocks it has, and their bytes.
func payload(in *bufio.Reader, n int) (count int, bytes int64) {
	read := func() uint64 {
		v, err := binary.ReadUvarint(in)
		must(err)
		for x := v; ; x >>= 7 {
			n--
			if x < 128 {
				return v
			}
		}
	}
	skip := func(k int) {
		_, err := in.Discard(k)
		must(err)
		n -= k
	}
	for n > 0 {
		key := read()
		if key&7 == 0 {
			read()
			continue
		}
		size := int(read())
		if key>>3 != 3 { // not `payload`
			skip(size)
			continue
		}
		count++
		for end := n - size; n > end; {
			inner := read()
			k := int(read())
			if inner>>3 == 2 {
				bytes += int64(k)
			}
			skip(k)
		}
	}
	return count, bytes
}

// stock reads CARs (v1) into memory.
func stock(paths []string) map[cid.Cid][]byte {
	have := map[cid.Cid][]byte{}
	for _, path := range paths {
		f, err := os.Open(path)
		must(err)
		in := bufio.NewReaderSize(f, 1<<20)
		for first := true; ; first = false {
			n, err := binary.ReadUvarint(in)
			if err == io.EOF {
				break
			}
			must(err)
			section := make([]byte, n)
			_, err = io.ReadFull(in, section)
			must(err)
			if first {
				continue
			}
			k, c, err := cid.CidFromBytes(section)
			must(err)
			have[c] = section[k:]
		}
		f.Close()
	}
	return have
}

func serve(mode string, paths []string) {
	have := stock(paths)
	rate := 0
	if kib, ok := strings.CutPrefix(mode, "slow="); ok {
		rate, _ = strconv.Atoi(kib)
		mode = "slow"
	}
	h := node("/ip4/127.0.0.1/tcp/0")
	var asked, sent atomic.Int64
	var mu sync.Mutex
	outs := map[peer.ID]network.Stream{}
	reply := func(to peer.ID, m bsmsg.BitSwapMessage) {
		mu.Lock()
		defer mu.Unlock()
		out := outs[to]
		if out == nil {
			s, err := h.NewStream(context.Background(), to, proto)
			if err != nil {
				return
			}
			out = s
			outs[to] = s
		}
		if m.ToNetV1(out) != nil {
			out.Reset()
			delete(outs, to)
		}
	}
	h.SetStreamHandler(proto, func(s network.Stream) {
		defer s.Close()
		from, in := s.Conn().RemotePeer(), bufio.NewReader(s)
		for {
			m, err := read(in)
			if err != nil {
				return
			}
			answer := bsmsg.New(false)
			for _, e := range m.Wantlist() {
				if e.Cancel {
					continue
				}
				data, ok := have[e.Cid]
				switch {
				case mode == "deaf":
				case !ok:
					if e.SendDontHave {
						answer.AddDontHave(e.Cid)
					}
				case e.WantType == pb.Message_Wantlist_Have:
					answer.AddHave(e.Cid)
				case mode == "mute":
				case mode == "lie":
					wrong := make([]byte, len(data))
					rand.Read(wrong)
					b, err := blocks.NewBlockWithCid(wrong, e.Cid)
					must(err)
					answer.AddBlock(b)
				default:
					b, err := blocks.NewBlockWithCid(data, e.Cid)
					must(err)
					one := bsmsg.New(false)
					one.AddBlock(b)
					time.Sleep(time.Duration(len(data)) * time.Second / time.Duration(max(rate, 1)<<10))
					reply(from, one)
					sent.Add(1)
				}
				asked.Add(1)
			}
			sent.Add(int64(len(answer.Blocks())))
			if !answer.Empty() {
				reply(from, answer)
			}
		}
	})
	fmt.Printf("multiaddr %s/p2p/%s\nready\n", h.Addrs()[0], h.ID())
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
	fmt.Printf("asked %d, sent %d\n", asked.Load(), sent.Load())
}

func read(in *bufio.Reader) (bsmsg.BitSwapMessage, error) {
	m, _, err := bsmsg.FromNet(in)
	return m, err
}

func crowd(n int, to string) {
	hosts := make([]host.Host, n)
	var wait sync.WaitGroup
	var connected atomic.Int64
	room := make(chan struct{}, 16)
	ma, err := multiaddr.NewMultiaddr(to)
	must(err)
	info, err := peer.AddrInfoFromP2pAddr(ma)
	must(err)
	for i := range hosts {
		wait.Add(1)
		room <- struct{}{}
		go func() {
			defer func() { <-room; wait.Done() }()
			hosts[i] = node()
			if hosts[i].Connect(context.Background(), *info) == nil {
				connected.Add(1)
			}
		}()
	}
	wait.Wait()
	fmt.Printf("connected %d\n", connected.Load())
	io.Copy(io.Discard, os.Stdin)
}

func main() {
	log.SetFlags(0)
	a := os.Args
	switch {
	case len(a) == 3 && a[1] == "wants":
		wants(a[2])
	case len(a) >= 3 && a[1] == "serve":
		serve(a[2], a[3:])
	case len(a) == 4 && a[1] == "crowd":
		n, err := strconv.Atoi(a[2])
		must(err)
		crowd(n, a[3])
	default:
		log.Fatal("usage: bitswap wants MULTIADDR < CIDS | serve lie|mute|deaf|slow=KIB FILE.car... | crowd N MULTIADDR")
	}
}
