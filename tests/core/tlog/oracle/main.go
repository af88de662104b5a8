// The oracle: writes vectors.json from Go's own transparency log, golang.org/x/mod/sumdb.
//
//	go run . > ../vectors.json
//
// Leaf i of every tree is the text "record <i>". Everything is deterministic.
package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64    `json:"index"`
	Size  int64    `json:"size"`
	Proof []string `json:"proof"`
}

type consistency struct {
	Size1 int64    `json:"size1"`
	Size2 int64    `json:"size2"`
	Proof []string `json:"proof"`
}

type key struct {
	Name string `json:"name"`
	Skey string `json:"skey"`
	Vkey string `json:"vkey"`
}

type signed struct {
	What string   `json:"what"`
	Keys []string `json:"keys"` // names of the keys that signed
	Text string   `json:"text"`
	Note string   `json:"note"`
}

type verdict struct {
	What string   `json:"what"`
	Note string   `json:"note"` // base64: some are no text
	Keys []string `json:"keys"` // vkeys known to the verifier
	OK   bool     `json:"ok"`
}

type vectors struct {
	Roots       []string      `json:"roots"`
	Leaves      []string      `json:"leaves"`
	Inclusion   []inclusion   `json:"inclusion"`
	Consistency []consistency `json:"consistency"`
	Keys        []key         `json:"keys"`
	Signed      []signed      `json:"signed"`
	Verdicts    []verdict     `json:"verdicts"`
	Checkpoint  []string      `json:"checkpoints"`
}

type store []tlog.Hash

func (s store) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, 0, len(indexes))
	for _, i := range indexes {
		out = append(out, s[i])
	}
	return out, nil
}

// A fixed stream of bytes in place of randomness, so that the keys never change.
type fixed struct{ next byte }

func (f *fixed) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = f.next
		f.next = f.next*7 + 13
	}
	return len(p), nil
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func hexes(hashes []tlog.Hash) []string {
	out := []string{}
	for _, h := range hashes {
		out = append(out, hex.EncodeToString(h[:]))
	}
	return out
}

const largest = 300

func trees(v *vectors) {
	var s store
	for n := int64(0); n <= largest; n++ {
		root, err := tlog.TreeHash(n, s)
		check(err)
		v.Roots = append(v.Roots, hex.EncodeToString(root[:]))
		record := []byte(fmt.Sprintf("record %d", n))
		leaf := tlog.RecordHash(record)
		v.Leaves = append(v.Leaves, hex.EncodeToString(leaf[:]))
		hashes, err := tlog.StoredHashes(n, record, s)
		check(err)
		s = append(s, hashes...)
	}
	for n := int64(1); n <= largest; n++ {
		for i := int64(0); i < n; i++ {
			if n > 20 && !(n == largest || n == 256 || n == 255 || n == 129) {
				continue
			}
			if n > 20 && i%37 != 0 && i != n-1 && i != 127 && i != 128 {
				continue
			}
			p, err := tlog.ProveRecord(n, i, s)
			check(err)
			check(tlog.CheckRecord(p, n, must(tlog.TreeHash(n, s)), i, s[tlog.StoredHashIndex(0, i)]))
			v.Inclusion = append(v.Inclusion, inclusion{i, n, hexes(p)})
			if i == 0 {
				continue
			}
			q, err := tlog.ProveTree(n, i, s)
			check(err)
			v.Consistency = append(v.Consistency, consistency{i, n, hexes(q)})
		}
		if n <= 20 {
			v.Consistency = append(v.Consistency, consistency{n, n, []string{}})
		}
	}
}

func must(h tlog.Hash, err error) tlog.Hash {
	check(err)
	return h
}

func (v *vectors) judge(what, text string, vkeys ...string) {
	var verifiers []note.Verifier
	for _, k := range vkeys {
		verifier, err := note.NewVerifier(k)
		check(err)
		verifiers = append(verifiers, verifier)
	}
	_, err := note.Open([]byte(text), note.VerifierList(verifiers...))
	v.Verdicts = append(v.Verdicts, verdict{
		what, base64.StdEncoding.EncodeToString([]byte(text)), vkeys, err == nil,
	})
}

func notes(v *vectors) {
	random := &fixed{next: 1}
	signers := map[string]note.Signer{}
	vkeys := map[string]string{}
	names := []string{"trailgate.dev/log/one", "example.com/ü/two", "witness.example/three"}
	for _, name := range names {
		skey, vkey, err := note.GenerateKey(random, name)
		check(err)
		v.Keys = append(v.Keys, key{name, skey, vkey})
		signer, err := note.NewSigner(skey)
		check(err)
		signers[name], vkeys[name] = signer, vkey
	}
	sign := func(what, text string, by ...string) string {
		var list []note.Signer
		for _, name := range by {
			list = append(list, signers[name])
		}
		out, err := note.Sign(&note.Note{Text: text}, list...)
		check(err)
		v.Signed = append(v.Signed, signed{what, by, text, string(out)})
		return string(out)
	}
	one, two, three := names[0], names[1], names[2]
	text := "If you think cryptography is the answer,\nask again.\n"
	single := sign("one key", text, one)
	double := sign("two keys", text, one, two)
	inner := sign("a text with empty lines, a dash and non-ASCII", "a\n\n\u2014 b\n\n\u00fc\u2028\u007f\n", two)
	sign("only a newline", "\n", one)

	v.judge("good", single, vkeys[one])
	v.judge("good, two known", double, vkeys[one], vkeys[two])
	v.judge("good, one of two known", double, vkeys[two])
	v.judge("good, empty lines in the text", inner, vkeys[two])
	v.judge("known key missing", single, vkeys[three])
	v.judge("no known key", single)
	v.judge("text changed", strings.Replace(single, "answer", "Answer", 1), vkeys[one])
	broken := strings.Replace(double, "\u2014 "+two+" ", "\u2014 "+three+" ", 1)
	v.judge("another key's ID under a known name is an unknown key", broken, vkeys[one], vkeys[three])
	v.judge("no final newline", strings.TrimSuffix(single, "\n"), vkeys[one])
	v.judge("extra line after the signatures", single+"\n", vkeys[one])
	v.judge("carriage return", strings.Replace(single, "answer,\n", "answer,\r\n", 1), vkeys[one])
	v.judge("tab", strings.Replace(single, "you ", "you\t", 1), vkeys[one])
	v.judge("not UTF-8", strings.Replace(single, "you", "y\xffu", 1), vkeys[one])
	v.judge("hyphen in place of the dash", strings.Replace(single, "\u2014", "-", 1), vkeys[one])
	v.judge("two spaces", strings.Replace(single, "\u2014 ", "\u2014  ", 1), vkeys[one])
	v.judge("no blank line", strings.Replace(single, "\n\n", "\n", 1), vkeys[one])
	v.judge("signature is not base64", strings.Replace(single, "one ", "one !", 1), vkeys[one])
	v.judge("signature of four bytes", text+"\n\u2014 "+one+" AAAAAA==\n", vkeys[one])
	v.judge("no signature", text+"\n", vkeys[one])
	v.judge("empty", "", vkeys[one])
	for size := 1; size <= 17; size += 8 {
		many := text + "\n"
		for i := 0; i < size-1; i++ {
			many += fmt.Sprintf("\u2014 other%d.example AAAAAAAAAAA=\n", i)
		}
		many += single[strings.LastIndex(single, "\n\n")+2:]
		v.judge(fmt.Sprintf("%d signatures", size), many, vkeys[one])
	}
	line := single[strings.LastIndex(single, "\n\n")+2:]
	v.judge("the same signature twice", single+line, vkeys[one])
	for _, n := range []int{0, 1, 2, 256, 300} {
		root, err := hex.DecodeString(v.Roots[n])
		check(err)
		body := fmt.Sprintf("%s\n%d\n%s\n", one, n, base64.StdEncoding.EncodeToString(root))
		v.Checkpoint = append(v.Checkpoint, sign(fmt.Sprintf("checkpoint of %d", n), body, one))
	}
}

func main() {
	v := &vectors{}
	trees(v)
	notes(v)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	check(encoder.Encode(v))
}
