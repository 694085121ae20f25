// Command reader reads a log with code that is not ours: golang.org/x/mod/sumdb, in which Go's own
// checksum database is read. Notes, signatures, tiles, trees and proofs are all judged by it; of the
// C2SP formats that it does not know, only cosignatures, bundles and offline proofs are taken apart
// here, with nothing but Go's standard library.
//
// Usage: reader LOG-FOLDER POLICY-FILE [PROOF-FILE]
//
// It checks that the policy's quorum cosigned the checkpoint, that the entries lead to its root and
// the tiles have their hashes, that older trees are prefixes, and that an offline proof leads from
// its entry to a cosigned checkpoint. It prints what holds, or what does not and exits 1.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const tileHeight = 8
const bundleWidth = 256

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: reader LOG-FOLDER POLICY-FILE [PROOF-FILE]")
	}
	folder := os.Args[1]
	trusted := parsePolicy(string(must(os.ReadFile(os.Args[2]))))

	tree := trusted.open("checkpoint", must(os.ReadFile(filepath.Join(folder, "checkpoint"))))
	reader := tlog.TileHashReader(tree, tiles{folder})
	checkEntries(folder, tree, reader)
	checkProofs(tree, reader)
	if len(os.Args) > 3 {
		checkOfflineProof(trusted, must(os.ReadFile(os.Args[3])))
	}
}

// A policy says whose signatures make a checkpoint of which log believable.
type policy struct {
	origin    string
	witnesses map[string]bool
	verifiers []note.Verifier
	quorum    int
}

// parsePolicy reads the lines that `pyrsia trust export-policy` writes; anything else is fatal.
func parsePolicy(text string) policy {
	found := policy{witnesses: map[string]bool{}}
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case fields[0] == "log" && len(fields) == 2:
			verifier := must(note.NewVerifier(fields[1]))
			found.origin = verifier.Name()
			found.verifiers = append(found.verifiers, verifier)
		case fields[0] == "witness" && len(fields) == 3:
			verifier := must(newCosigner(fields[2]))
			found.witnesses[verifier.name] = true
			found.verifiers = append(found.verifiers, verifier)
		case fields[0] == "group" && len(fields) == 3+len(found.witnesses):
			found.quorum = must(strconv.Atoi(fields[2]))
		case fields[0] == "quorum" && len(fields) == 2:
		default:
			log.Fatalf("policy: what does %q mean?", line)
		}
	}
	if found.quorum < 1 || found.origin == "" {
		log.Fatal("policy: no log, or a quorum that everybody satisfies")
	}
	return found
}

// open returns the tree of a signed checkpoint that a quorum of the witnesses cosigned.
func (p policy) open(what string, signed []byte) tlog.Tree {
	opened := must(note.Open(signed, note.VerifierList(p.verifiers...)))
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != p.origin || lines[3] != "" {
		log.Fatalf("%s: %q is no checkpoint of %s", what, opened.Text, p.origin)
	}
	tree := tlog.Tree{N: must(strconv.ParseInt(lines[1], 10, 64)), Hash: must(tlog.ParseHash(lines[2]))}
	count, byLog := 0, 0
	for _, each := range opened.Sigs {
		if p.witnesses[each.Name] {
			count++
		} else {
			byLog++
		}
	}
	if count < p.quorum {
		log.Fatalf("%s: %d cosignatures, the policy wants %d", what, count, p.quorum)
	}
	fmt.Printf("%s: size %d, %d cosignatures (quorum %d), %d of the log\n", what, tree.N, count, p.quorum, byLog)
	return tree
}

// A cosigner verifies signatures of C2SP tlog-cosignature, Ed25519 (signature type 0x04).
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newCosigner(vkey string) (cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return cosigner{}, fmt.Errorf("%q is no verifier key", vkey)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 0x04 {
		return cosigner{}, fmt.Errorf("%q is no key of a cosigner", vkey)
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if parts[1] != fmt.Sprintf("%08x", hash) {
		return cosigner{}, fmt.Errorf("%q has another id than its key", vkey)
	}
	return cosigner{parts[0], hash, key[1:]}, nil
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(signature)
	signed := append([]byte(fmt.Sprintf("cosignature/v1\ntime %d\n", seconds)), text...)
	return ed25519.Verify(c.key, signed, signature[8:])
}

// tiles reads the hash tiles below a folder, laid out as C2SP tlog-tiles says.
type tiles struct{ folder string }

func (t tiles) Height() int { return tileHeight }

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		data, err := os.ReadFile(filepath.Join(t.folder, path(tile)))
		if errors.Is(err, os.ErrNotExist) { // a partial tile may be gone once the full one is there
			full := tile
			full.W = 1 << tileHeight
			data, err = os.ReadFile(filepath.Join(t.folder, path(full)))
		}
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s: %d bytes", path(tile), len(data))
		}
		found = append(found, data[:tile.W*tlog.HashSize])
	}
	return found, nil
}

// path spells a tile as C2SP does: Go writes the height as well, and "data" for "entries".
func path(tile tlog.Tile) string {
	rest := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight))
	return "tile/" + strings.Replace(rest, "data/", "entries/", 1)
}

// checkEntries grows a tree from the entries alone, and holds the checkpoint and the tiles against it.
//
// TileHashReader alone would not do: the release that Debian has of it does not hold every tile
// against its parent, where the hashes that lead to the root share a tile.
func checkEntries(folder string, tree tlog.Tree, reader tlog.HashReader) {
	var grown stored
	for start := int64(0); start < tree.N; start += bundleWidth {
		width := tree.N - start
		if width > bundleWidth {
			width = bundleWidth
		}
		var indexes []int64
		for at, entry := range bundle(folder, start, width) {
			grown = append(grown, must(tlog.StoredHashes(start+int64(at), entry, grown))...)
			indexes = append(indexes, tlog.StoredHashIndex(0, start+int64(at)))
		}
		for at, hash := range must(reader.ReadHashes(indexes)) {
			if hash != grown[indexes[at]] {
				log.Fatalf("tiles: entry %d has another hash in them", start+int64(at))
			}
		}
	}
	if root := must(tlog.TreeHash(tree.N, grown)); root != tree.Hash {
		log.Fatalf("the entries lead to the root %s, the checkpoint says %s", root, tree.Hash)
	}
	fmt.Printf("entries: %d lead to the root\n", tree.N)
}

// stored holds the hashes of a tree in the order in which Go stores them.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, s[index])
	}
	return found, nil
}

// bundle returns the entries of the bundle that begins with entry start.
func bundle(folder string, start, width int64) (entries [][]byte) {
	name := path(tlog.Tile{H: tileHeight, L: -1, N: start / bundleWidth, W: int(width)})
	data := must(os.ReadFile(filepath.Join(folder, name)))
	for at := int64(0); at < width; at++ {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			log.Fatalf("%s ends within entry %d", name, start+at)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		entries = append(entries, data[2:end])
		data = data[end:]
	}
	if len(data) > 0 {
		log.Fatalf("%s: %d bytes after its last entry", name, len(data))
	}
	return entries
}

// checkProofs makes proofs of some records and older trees from the tiles, and judges them.
func checkProofs(tree tlog.Tree, reader tlog.HashReader) {
	count := 0
	for old := int64(1); old < tree.N; old += 1 + tree.N/50 {
		hash := must(tlog.TreeHash(old, reader))
		prefix := must(tlog.ProveTree(tree.N, old, reader))
		check(tlog.CheckTree(prefix, tree.N, tree.Hash, old, hash))
		record := must(reader.ReadHashes([]int64{tlog.StoredHashIndex(0, old)}))[0]
		proof := must(tlog.ProveRecord(tree.N, old, reader))
		check(tlog.CheckRecord(proof, tree.N, tree.Hash, old, record))
		count++
	}
	fmt.Printf("proofs: %d prefixes and %d records hold\n", count, count)
}

// checkOfflineProof judges a C2SP tlog-proof that carries its entry as extra data.
func checkOfflineProof(trusted policy, data []byte) {
	head, signed, found := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" ||
		!strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		log.Fatal("this is no offline proof with its entry")
	}
	leaf := must(base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra ")))
	index := must(strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64))
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		proof = append(proof, must(tlog.ParseHash(line)))
	}
	tree := trusted.open("offline proof", signed)
	check(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf)))
	fmt.Printf("offline proof: entry %d is in the tree\n", index)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
