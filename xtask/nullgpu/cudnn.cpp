// cuDNN: convolutions by its graph interface, counted by their shapes, and batch norm by the old one.
//
// A descriptor keeps the attributes it was given; a plan's shapes are read when it is first executed. How many
// engines there are, and what workspace the first one asks for, can be set, which is how libtorch is made to try
// another one. The numbers are cuDNN 9's.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "card.hpp"

using card::setting;

namespace {

// As cuDNN numbers itself: 91900 is 9.19.0.
int version() { return static_cast<int>(setting("NULL_GPU_CUDNN", 91900)); }
constexpr int EXECUTION_FAILED = 5000;

enum Attribute {
  ENGINEHEUR_OPERATION_GRAPH = 201,
  ENGINEHEUR_RESULTS = 202,
  ENGINECFG_ENGINE = 300,
  PLAN_ENGINE_CONFIG = 401,
  PLAN_WORKSPACE_SIZE = 402,
  FORWARD_W = 703,
  FORWARD_X = 704,
  BACKWARD_DATA_W = 709,
  BACKWARD_DATA_DX = 710,
  BACKWARD_FILTER_DW = 715,
  BACKWARD_FILTER_X = 716,
  GRAPH_OPERATIONS = 801,
  TENSOR_ALIGNMENT = 900,
  TENSOR_TYPE = 901,
  TENSOR_DIMENSIONS = 902,
  TENSOR_STRIDES = 903,
  ENGINE_OPERATION_GRAPH = 1300,
  ENGINE_GLOBAL_INDEX = 1301,
};
enum Type { HANDLE = 0, BOOLEAN = 2, INT64 = 3, DOUBLE = 5, VOID_POINTER = 6, DESCRIPTOR = 15, CHAR = 24 };
enum Operation { FORWARD = 10, BACKWARD_FILTER = 11, BACKWARD_DATA = 12 };

struct Descriptor {
  int kind;
  std::map<int, std::vector<char>> attributes{};
  // Of an engine's configuration: what it was found for, and its place among those found.
  Descriptor* found_for = nullptr;
  int engine = 0;
  // Of a plan that was executed.
  card::Row* row = nullptr;

  template <typename T>
  std::vector<T> all(int attribute) const {
    const auto found = attributes.find(attribute);
    if (found == attributes.end()) return {};
    std::vector<T> values(found->second.size() / sizeof(T));
    std::memcpy(values.data(), found->second.data(), values.size() * sizeof(T));
    return values;
  }
  Descriptor* one(int attribute) const {
    const auto values = all<Descriptor*>(attribute);
    return values.empty() ? nullptr : values.front();
  }
};

std::size_t width(int type) {
  switch (type) {
    case HANDLE: case INT64: case DOUBLE: case VOID_POINTER: case DESCRIPTOR: return 8;
    case BOOLEAN: case CHAR: return 1;
    default: return 4;
  }
}

// `64x3x32x32`, and what is unusual about it.
std::string tensor(const Descriptor* of) {
  if (!of) return "?";
  std::string text;
  const auto strides = of->all<std::int64_t>(TENSOR_STRIDES);
  for (const auto dimension : of->all<std::int64_t>(TENSOR_DIMENSIONS)) {
    text += (text.empty() ? "" : "x") + std::to_string(dimension);
  }
  if (strides.size() == 4 && strides[1] == 1 && strides[3] != 1) text += " channels-last";
  for (const auto alignment : of->all<std::int64_t>(TENSOR_ALIGNMENT)) {
    if (alignment < 16) text += " aligned to " + std::to_string(alignment);
  }
  // CUDNN_DATA_FLOAT is 0.
  for (const auto type : of->all<std::int32_t>(TENSOR_TYPE)) {
    if (type != 0) text += " type " + std::to_string(type);
  }
  return text;
}

std::string operation(const Descriptor& of) {
  switch (of.kind) {
    case FORWARD:
      return "forward " + tensor(of.one(FORWARD_X)) + " by " + tensor(of.one(FORWARD_W));
    case BACKWARD_DATA:
      return "backward-data " + tensor(of.one(BACKWARD_DATA_DX)) + " by " + tensor(of.one(BACKWARD_DATA_W));
    case BACKWARD_FILTER:
      return "backward-filter " + tensor(of.one(BACKWARD_FILTER_X)) + " for " + tensor(of.one(BACKWARD_FILTER_DW));
    default: return "and operation " + std::to_string(of.kind);
  }
}

// What a plan computes, and on which of the engines where it is not the first.
std::string plan(const Descriptor& of) {
  std::string text = "convolution";
  const Descriptor* configuration = of.one(PLAN_ENGINE_CONFIG);
  const Descriptor* graph = nullptr;
  std::string engine;
  if (configuration && configuration->found_for) {
    graph = configuration->found_for->one(ENGINEHEUR_OPERATION_GRAPH);
    if (configuration->engine > 0) engine = ", engine " + std::to_string(configuration->engine);
  } else if (configuration && configuration->one(ENGINECFG_ENGINE)) {
    graph = configuration->one(ENGINECFG_ENGINE)->one(ENGINE_OPERATION_GRAPH);
    engine = ", fallback engine";
  }
  if (!graph) return text + " ?";
  for (const Descriptor* step : graph->all<Descriptor*>(GRAPH_OPERATIONS)) text += " " + operation(*step);
  return text + engine;
}

int norm(const char* what) {
  card::launched(card::row(std::string("batch norm ") + what));
  return card::state() ? EXECUTION_FAILED : 0;
}

int make(void** made) {
  *made = std::calloc(1, 64);
  return 0;
}

}  // namespace

extern "C" {

std::size_t cudnnGetVersion() { return version(); }
std::size_t cudnnGetCudartVersion() { return 13000; }
int cudnnGetProperty(int which, int* value) {
  const int parts[] = {version() / 10000, version() / 100 % 100, version() % 100};
  return *value = parts[which], 0;
}
const char* cudnnGetErrorString(int status) { return status ? "the null GPU's cuDNN failed" : "success"; }
void cudnnGetLastErrorString(char* text, std::size_t capacity) { std::snprintf(text, capacity, "no more is known"); }
int cudnnCreate(void** made) { return make(made); }
int cudnnGetStream(void*, void** stream) { return *stream = nullptr, 0; }
int cudnnCreateTensorDescriptor(void** made) { return make(made); }
int cudnnCreateFilterDescriptor(void** made) { return make(made); }
int cudnnCreateConvolutionDescriptor(void** made) { return make(made); }
int cudnnCreateActivationDescriptor(void** made) { return make(made); }
int cudnnCreatePoolingDescriptor(void** made) { return make(made); }
int cudnnCreateDropoutDescriptor(void** made) { return make(made); }

// Batch norm. Its functions take more arguments than are named here; none of those is looked at.
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*,
                                                             std::size_t* bytes) {
  return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void*, int, int, void*, void*, void*, void*, void*, void*, void*,
                                                      std::size_t* bytes) {
  return *bytes = 0, 0;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, std::size_t* bytes) {
  return *bytes = 0, 0;
}
int cudnnBatchNormalizationForwardInference() { return norm("inference"); }
int cudnnBatchNormalizationForwardTrainingEx() { return norm("training"); }
int cudnnBatchNormalizationBackwardEx() { return norm("backward"); }

// The graph interface.
int cudnnBackendCreateDescriptor(int kind, void** made) { return *made = new Descriptor{kind}, 0; }
// Kept: a plan's shapes are read through the descriptors that it was made of.
int cudnnBackendDestroyDescriptor(void*) { return 0; }
int cudnnBackendFinalize(void*) { return 0; }
int cudnnBackendSetAttribute(void* of, int attribute, int type, std::int64_t count, const void* values) {
  const char* first = static_cast<const char*>(values);
  static_cast<Descriptor*>(of)->attributes[attribute].assign(first, first + count * width(type));
  return 0;
}
int cudnnBackendGetAttribute(void* of, int attribute, int type, std::int64_t room, std::int64_t* count, void* values) {
  auto* asked = static_cast<Descriptor*>(of);
  auto** given = static_cast<Descriptor**>(values);
  std::int64_t found = 0;
  if (attribute == ENGINEHEUR_RESULTS) {
    found = setting("NULL_GPU_ENGINES", 1);
    if (given) found = std::min(found, room);
    for (std::int64_t engine = 0; given && engine < found; engine++) {
      given[engine]->found_for = asked, given[engine]->engine = static_cast<int>(engine);
    }
  } else if (attribute == ENGINECFG_ENGINE || attribute == PLAN_ENGINE_CONFIG) {
    found = 1;
    if (given && room > 0) given[0]->found_for = asked;
  } else if (attribute == PLAN_WORKSPACE_SIZE && given && room > 0) {
    const Descriptor* configuration = asked->one(PLAN_ENGINE_CONFIG);
    const bool greedy = configuration && configuration->engine == 0;
    const std::int64_t bytes = greedy ? setting("NULL_GPU_WORKSPACE_MIB", 0) << 20 : 0;
    std::memcpy(values, &bytes, sizeof bytes), found = 1;
  } else if (type == INT64 && given && room > 0) {
    const auto kept = asked->all<std::int64_t>(attribute);
    found = std::min<std::int64_t>(room, kept.size());
    std::memcpy(values, kept.data(), found * sizeof(std::int64_t));
    if (kept.empty() && attribute == ENGINE_GLOBAL_INDEX) std::memset(values, 0, sizeof(std::int64_t)), found = 1;
  }
  if (count) *count = found;
  return 0;
}
int cudnnBackendExecute(void*, void* executed, void*) {
  auto* of = static_cast<Descriptor*>(executed);
  if (!of->row) of->row = &card::row(plan(*of));
  card::launched(*of->row);
  return card::state() ? EXECUTION_FAILED : 0;
}

}  // extern "C"
