package org.tensorflow.lite;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * A model of these stubs is text: a line `input|output NAME int8|float32 1x2x3 SCALE ZERO_POINT` for each tensor. It has four nodes, and
 * every output holds the input's bytes, over and over. Tests read and set what a phone does in system properties: phone.log is its
 * log, phone.GPU, phone.NPU and phone.NNAPI say how many of the four nodes each takes.
 */
final class Toy {
    final List<Tensor> inputs = new ArrayList<>();
    final List<Tensor> outputs = new ArrayList<>();

    Toy(ByteBuffer model) {
        ByteBuffer copy = model.duplicate();
        copy.rewind();
        byte[] content = new byte[copy.remaining()];
        copy.get(content);
        for (String line : new String(content, StandardCharsets.UTF_8).split("\n")) {
            String[] words = line.split(" ");
            if (words.length != 6) throw new IllegalArgumentException("ByteBuffer is not a valid TensorFlow Lite model flatbuffer");
            (words[0].equals("input") ? inputs : outputs).add(new One(words));
        }
    }

    static void log(int taken, int of, String delegate) {
        String line = "Replacing " + taken + " out of " + of + " node(s) with delegate (" + delegate + ") node, yielding 1 partitions for subgraph 0.";
        android.util.Log.i("tflite", line);
    }

    void run(Object[] in, Map<Integer, Object> out) {
        ByteBuffer input = (ByteBuffer) in[0];
        for (Object one : out.values()) {
            ByteBuffer output = (ByteBuffer) one;
            for (int i = 0; output.hasRemaining(); i++) output.put(input.get(i % input.capacity()));
        }
    }

    private static final class One implements Tensor {
        private final String[] words;
        private One(String[] words) { this.words = words; }
        public DataType dataType() { return DataType.valueOf(words[2].toUpperCase()); }
        public String name() { return words[1]; }
        public int[] shape() { return java.util.Arrays.stream(words[3].split("x")).mapToInt(Integer::parseInt).toArray(); }
        public int numBytes() {
            int size = dataType() == DataType.FLOAT32 ? 4 : 1;
            for (int side : shape()) size *= side;
            return size;
        }
        public QuantizationParams quantizationParams() {
            return new QuantizationParams(Float.parseFloat(words[4]), Integer.parseInt(words[5]));
        }
    }
}
