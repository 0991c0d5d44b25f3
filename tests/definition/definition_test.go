// Package definition looks at the CustomResourceDefinition with the code of an API server: what it says of the definition
// itself, and what it takes and refuses of documents. `make test` runs it where Go is there.
package definition

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// The definition as the snapshot test of crates/manifest holds it: the output of `shardwright crd -o json`.
const snapshot = "../../crates/manifest/tests/snapshots/crd.snap"

// server is what an API server makes of a definition.
type server struct {
	definition *apiextensions.CustomResourceDefinition
	structural *schema.Structural
	form       validation.SchemaValidator
	rules      *cel.Validator
}

func load(t *testing.T) server {
	t.Helper()
	text, err := os.ReadFile(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	// Two lines of three dashes frame what insta writes before it.
	parts := strings.SplitN(string(text), "---\n", 3)
	if len(parts) != 3 {
		t.Fatalf("%s is no snapshot", snapshot)
	}
	var given apiextensionsv1.CustomResourceDefinition
	decoder := json.NewDecoder(strings.NewReader(parts[2]))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&given); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&given)
	var definition apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&given, &definition, nil); err != nil {
		t.Fatal(err)
	}
	// Of one version the conversion keeps the schema for all versions.
	props := definition.Spec.Validation
	if props == nil {
		props = definition.Spec.Versions[0].Schema
	}
	structural, err := schema.NewStructural(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	form, _, err := validation.NewSchemaValidator(props.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	return server{
		definition: &definition,
		structural: structural,
		form:       form,
		rules:      cel.NewValidator(structural, true, celconfig.PerCallLimit),
	}
}

func TestTheDefinitionIsAccepted(t *testing.T) {
	server := load(t)
	// Its form, its defaults, whether it is structural, whether its rules compile, and what they cost at most.
	for _, problem := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), server.definition) {
		t.Error(problem)
	}
}

// stored is what becomes of an object before it is judged: unknown fields are dropped, defaults filled in.
func (s server) stored(object map[string]interface{}) map[string]interface{} {
	pruning.Prune(object, s.structural, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	defaulting.Default(object, s.structural)
	return object
}

// judge is every problem of an object, and of the change from the one before where there is one.
func (s server) judge(object, before map[string]interface{}) field.ErrorList {
	problems := validation.ValidateCustomResource(nil, object, s.form)
	problems = append(problems, listtype.ValidateListSetsAndMaps(nil, s.structural, object)...)
	var old interface{}
	if before != nil {
		old = before
	}
	found, _ := s.rules.Validate(context.Background(), nil, s.structural, object, old, celconfig.RuntimeCELCostBudget)
	return append(problems, found...)
}

func object(t *testing.T, text string) map[string]interface{} {
	t.Helper()
	var object map[string]interface{}
	if err := yaml.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	// An API server reads whole numbers as such.
	return whole(object).(map[string]interface{})
}

func whole(value interface{}) interface{} {
	switch value := value.(type) {
	case map[string]interface{}:
		for name, inner := range value {
			value[name] = whole(inner)
		}
	case []interface{}:
		for index, inner := range value {
			value[index] = whole(inner)
		}
	case float64:
		if value == float64(int64(value)) {
			return int64(value)
		}
	}
	return value
}

func withSpec(t *testing.T, spec string) map[string]interface{} {
	t.Helper()
	made := object(t, "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: a}\n")
	made["spec"] = object(t, spec)
	return made
}

func TestTheExamplesAreAccepted(t *testing.T) {
	server := load(t)
	examples, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatal("there are no examples", err)
	}
	for _, name := range examples {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "kind: RedisCluster") {
			continue
		}
		made := server.stored(object(t, string(text)))
		for _, problem := range server.judge(made, made) {
			t.Errorf("%s: %v", name, problem)
		}
	}
}

func TestDefaultsAreStored(t *testing.T) {
	server := load(t)
	spec := server.stored(withSpec(t, "{}"))["spec"].(map[string]interface{})
	persistence, _ := spec["persistence"].(map[string]interface{})
	acl, _ := spec["acl"].(map[string]interface{})
	if persistence["fsync"] != "everysec" || persistence["aof"] != true || acl["storage"] != "Secret" {
		t.Errorf("the stored object has %v", spec)
	}
}

func TestGoodDocumentsAreTaken(t *testing.T) {
	server := load(t)
	for _, spec := range []string{
		"{}",
		"{storage: {size: 10Gi, storageClassName: fast}}",
		"{storage: {size: 1.5Ti}}",
		"{resources: {limits: {memory: 2Gi, cpu: 2}, requests: {memory: 1Gi, cpu: 500m}}}",
		"{resources: {limits: {memory: 2000M}, requests: {memory: 1e8}}}",
		"{config: {maxmemory-policy: allkeys-lru, hz: 20, lazyfree-lazy-expire: true, port: null}}",
		"{users: [{name: default}, {name: app, rules: '~a>b:* &* +@all -@dangerous (+get ~x)'}]}",
		"{pod: {env: [{name: A, value: b}, {name: C, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}}",
		"{pod: {tolerations: [{operator: Exists}, {operator: Exists}], topologySpreadConstraints: []}}",
		"{pod: {securityContext: {runAsUser: 1000, fsGroup: null}}}",
		"{version: '7.0', image: 'redis:7.0.15'}",
	} {
		for _, problem := range server.judge(server.stored(withSpec(t, spec)), nil) {
			t.Errorf("%s: %v", spec, problem)
		}
	}
}

func TestBadDocumentsAreRefused(t *testing.T) {
	server := load(t)
	for spec, field := range map[string]string{
		"{shards: 2}":                                               "spec.shards",
		"{engine: keydb}":                                           "spec.engine",
		"{version: latest}":                                         "spec.version",
		"{image: 'a b'}":                                            "spec.image",
		"{storage: {size: 2000X}}":                                  "spec.storage.size",
		"{storage: {size: -5Gi}}":                                   "spec.storage.size",
		"{storage: {size: ''}}":                                     "spec.storage.size",
		"{storage: {size: 0}}":                                      "spec.storage.size",
		"{storage: {size: 5}}":                                      "spec.storage.size",
		"{storage: {size: '0.0'}}":                                  "spec.storage.size",
		"{storage: {size: 1Gi, storageClassName: ''}}":              "spec.storage.storageClassName",
		"{resources: {limits: {cpu: 0.5}}}":                         "spec.resources.limits.cpu",
		"{resources: {limits: {memory: 1Mi}}}":                      "spec.resources.limits.memory",
		"{resources: {limits: {cpu: 1}, requests: {cpu: 2}}}":       "spec.resources.requests.cpu",
		"{users: [{name: 'my app', rules: +get}]}":                  "spec.users[0].name",
		"{users: [{name: '', rules: +get}]}":                        "spec.users[0].name",
		"{users: [{name: a, rules: ''}]}":                           "spec.users[0].rules",
		"{users: [{name: a, rules: '~* +@all >secret'}]}":           "spec.users[0].rules",
		"{users: [{name: a, rules: '(>secret +get)'}]}":             "spec.users[0].rules",
		"{users: [{name: a}]}":                                      "spec.users[0].rules",
		"{users: [{name: a, rules: +get, passwordHashes: [zz]}]}":   "spec.users[0].passwordHashes[0]",
		"{users: [{name: a, rules: +get}, {name: a, rules: +get}]}": "spec.users[1]",
		"{pod: {env: [{value: x}]}}":                                "spec.pod.env[0].name",
		"{pod: {env: [{name: A}, {name: A}]}}":                      "spec.pod.env[1]",
		"{pod: {sidecars: [{name: a}]}}":                            "spec.pod.sidecars[0].image",
		"{pod: {labels: {a: 'b c'}}}":                               "spec.pod.labels.a",
		"{pod: {priorityClassName: High}}":                          "spec.pod.priorityClassName",
	} {
		problems := server.judge(server.stored(withSpec(t, spec)), nil)
		if len(problems) == 0 {
			t.Errorf("%s is taken", spec)
		}
		told := false
		for _, problem := range problems {
			told = told || strings.Trim(problem.Field, ".") == field
			if strings.Contains(problem.Error(), "secret") {
				t.Errorf("%s: a password is repeated: %v", spec, problem)
			}
		}
		if !told {
			t.Errorf("%s: nothing is said of %s: %v", spec, field, problems)
		}
	}
	nameless := withSpec(t, "{}")
	nameless["metadata"] = map[string]interface{}{"name": "7up"}
	if len(server.judge(server.stored(nameless), nil)) == 0 {
		t.Error("a name that no Service can have is taken")
	}
}

func TestChanges(t *testing.T) {
	server := load(t)
	for _, change := range []struct {
		before, after string
		taken         bool
	}{
		{"{}", "{engine: valkey}", true},
		{"{}", "{engine: redis}", false},
		{"{}", "{version: '7.0'}", false},
		{"{engine: valkey}", "{engine: redis}", false},
		{"{engine: redis}", "{engine: valkey}", true},
		{"{version: '7.0'}", "{engine: redis}", true},
		{"{storage: {size: 6Gi}}", "{storage: {size: 5Gi}}", false},
		{"{storage: {size: 6Gi}}", "{storage: {size: 6144Mi}}", true},
		{"{storage: {size: 100Gi}}", "{}", false},
		{"{}", "{storage: {size: 9Gi}}", true},
		{"{storage: {size: lots}}", "{storage: {size: 5Gi}}", true},
		{"{storage: {size: 8Gi, storageClassName: a}}", "{storage: {size: 8Gi, storageClassName: b}}", false},
	} {
		before := server.stored(withSpec(t, change.before))
		problems := server.judge(server.stored(withSpec(t, change.after)), before)
		if (len(problems) == 0) != change.taken {
			t.Errorf("%s to %s: %v", change.before, change.after, problems)
		}
	}
}
