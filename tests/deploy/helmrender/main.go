// SPDX-License-Identifier: Apache-2.0
//
// helmrender: render a chart's templates offline (no cluster, no helm binary).
// Same engine as `helm template`: Go text/template + sprig + Helm's few extra
// functions. Usage: helmrender [-f values.yaml]... [-set a.b=c]... [-n ns] NAME CHART
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type multi []string

func (m *multi) String() string     { return strings.Join(*m, ",") }
func (m *multi) Set(s string) error { *m = append(*m, s); return nil }

type dict = map[string]interface{}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "helmrender:", err)
		os.Exit(1)
	}
}
func readYAML(p string) dict {
	b, err := os.ReadFile(p)
	die(err)
	m := dict{}
	die(yaml.UnmarshalStrict(b, &m)) // duplicate keys are mistakes
	return m
}
func merge(dst, src dict) dict { // null deletes, maps merge, all else replaces
	for k, v := range src {
		if v == nil {
			delete(dst, k)
			continue
		}
		if sm, ok := v.(dict); ok {
			if dm, ok := dst[k].(dict); ok {
				dst[k] = merge(dm, sm)
				continue
			}
		}
		dst[k] = v
	}
	return dst
}
func setPath(m dict, kv string) {
	eq := strings.IndexByte(kv, '=')
	if eq < 0 {
		die(fmt.Errorf("bad -set %q", kv))
	}
	var v interface{}
	die(yaml.Unmarshal([]byte(kv[eq+1:]), &v))
	ks := strings.Split(kv[:eq], ".")
	for _, k := range ks[:len(ks)-1] {
		n, ok := m[k].(dict)
		if !ok {
			n = dict{}
			m[k] = n
		}
		m = n
	}
	m[ks[len(ks)-1]] = v
}

type files map[string][]byte

func (f files) Get(n string) string      { return string(f[n]) }
func (f files) GetBytes(n string) []byte { return f[n] }
func (f files) Glob(p string) files {
	o := files{}
	for n, b := range f {
		if ok, _ := filepath.Match(p, n); ok {
			o[n] = b
		}
	}
	return o
}
func (f files) AsConfig() string {
	m := map[string]string{}
	for n, b := range f {
		m[filepath.Base(n)] = string(b)
	}
	return toYAML(m)
}
func (f files) Lines(n string) []string { return strings.Split(string(f[n]), "\n") }

type apiVersions []string

func (a apiVersions) Has(v string) bool {
	for _, x := range a {
		if x == v {
			return true
		}
	}
	return false
}
func toYAML(v interface{}) string {
	b, err := yaml.Marshal(v)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(b), "\n")
}
func funcs(t *template.Template) template.FuncMap {
	f := sprig.TxtFuncMap()
	delete(f, "env")
	delete(f, "expandenv")
	f["getHostByName"] = func(string) string { return "" }
	f["toYaml"] = toYAML
	f["fromYaml"] = func(s string) dict {
		m := dict{}
		if e := yaml.Unmarshal([]byte(s), &m); e != nil {
			m["Error"] = e.Error()
		}
		return m
	}
	f["fromYamlArray"] = func(s string) []interface{} {
		a := []interface{}{}
		if e := yaml.Unmarshal([]byte(s), &a); e != nil {
			a = []interface{}{e.Error()}
		}
		return a
	}
	f["toJson"] = func(v interface{}) string { b, _ := json.Marshal(v); return string(b) }
	f["fromJson"] = func(s string) dict { m := dict{}; _ = json.Unmarshal([]byte(s), &m); return m }
	f["toToml"] = func(v interface{}) string {
		var b strings.Builder
		if e := toml.NewEncoder(&b).Encode(v); e != nil {
			return e.Error()
		}
		return b.String()
	}
	f["lookup"] = func(_, _, _, _ string) dict { return dict{} }
	f["required"] = func(w string, v interface{}) (interface{}, error) {
		if v == nil || v == "" {
			return nil, errors.New(w)
		}
		return v, nil
	}
	f["include"] = func(n string, d interface{}) (string, error) {
		var b strings.Builder
		e := t.ExecuteTemplate(&b, n, d)
		return b.String(), e
	}
	f["tpl"] = func(s string, d interface{}) (string, error) {
		c, e := t.Clone()
		if e != nil {
			return "", e
		}
		c.Funcs(funcs(c))
		if c, e = c.New("tpl").Parse(s); e != nil {
			return "", e
		}
		var b strings.Builder
		e = c.Execute(&b, d)
		return strings.ReplaceAll(b.String(), "<no value>", ""), e
	}
	return f
}

func main() {
	var vf, sets multi
	flag.Var(&vf, "f", "values file")
	flag.Var(&sets, "set", "a.b=c")
	ns := flag.String("n", "default", "namespace")
	kv := flag.String("kube", "v1.32.0", "kube version")
	strict := flag.Bool("strict", false, "fail on a missing value")
	showVals := flag.Bool("values", false, "print the merged values as JSON and exit")
	notes := flag.Bool("notes", false, "render NOTES.txt alone")
	apis := flag.String("api", "", "comma-separated extra .Capabilities.APIVersions")
	flag.Parse()
	if flag.NArg() != 2 {
		die(errors.New("usage: helmrender [-f v.yaml] [-set k=v] NAME CHARTDIR"))
	}
	rel, dir := flag.Arg(0), flag.Arg(1)
	chart := readYAML(filepath.Join(dir, "Chart.yaml"))
	vals := readYAML(filepath.Join(dir, "values.yaml"))
	for _, p := range vf {
		vals = merge(vals, readYAML(p))
	}
	for _, s := range sets {
		setPath(vals, s)
	}
	if *showVals {
		b, _ := json.MarshalIndent(vals, "", " ")
		fmt.Println(string(b))
		return
	}
	ch := dict{"IsRoot": true}
	for k, v := range chart {
		ch[strings.ToUpper(k[:1])+k[1:]] = v
	}
	ch["APIVersion"], ch["AppVersion"] = chart["apiVersion"], chart["appVersion"]
	fs := files{}
	tmpls := map[string]string{}
	die(filepath.Walk(dir, func(p string, i os.FileInfo, e error) error {
		if e != nil || i.IsDir() {
			return e
		}
		r, _ := filepath.Rel(dir, p)
		b, e := os.ReadFile(p)
		if strings.HasPrefix(r, "templates/") {
			tmpls[r] = string(b)
		} else if r != "Chart.yaml" && r != "values.yaml" {
			fs[r] = b
		}
		return e
	}))
	major, minor := "1", strings.Split(strings.TrimPrefix(*kv, "v"), ".")[1]
	top := dict{
		"Values": vals, "Chart": ch, "Files": fs, "Subcharts": dict{},
		"Release": dict{"Name": rel, "Namespace": *ns, "Service": "Helm", "Revision": 1, "IsInstall": true, "IsUpgrade": false},
		"Capabilities": dict{
			"KubeVersion": struct{ Version, Major, Minor, GitVersion string }{*kv, major, minor, *kv},
			"APIVersions": apiVersions(append(strings.Split(*apis, ","), "v1", "apps/v1", "batch/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1")),
			"HelmVersion": struct{ Version, GoVersion string }{"v3.14.0", "go1.21"},
		},
	}
	t := template.New("gotpl")
	if *strict {
		t.Option("missingkey=error")
	} else {
		t.Option("missingkey=zero")
	}
	t.Funcs(funcs(t))
	var names []string
	for n := range tmpls {
		names = append(names, n)
	}
	sort.Strings(names)
	full := func(n string) string { return fmt.Sprintf("%v/%s", chart["name"], n) }
	for _, n := range names {
		_, e := t.New(full(n)).Parse(tmpls[n])
		die(e)
	}
	for _, n := range names {
		b := filepath.Base(n)
		if strings.HasPrefix(b, "_") || (b == "NOTES.txt") != *notes {
			continue
		}
		top["Template"] = dict{"Name": full(n), "BasePath": full("templates")}
		var o strings.Builder
		die(t.ExecuteTemplate(&o, full(n), top))
		s := strings.TrimSpace(strings.ReplaceAll(o.String(), "<no value>", ""))
		if s == "" {
			continue
		}
		fmt.Printf("---\n# Source: %s\n%s\n", full(n), strings.TrimPrefix(s, "---\n"))
	}
}
