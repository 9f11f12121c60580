package com.google.ai.edge.litert;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** With the two rules of LiteRT that decide where a model runs, and the toy models of org.tensorflow.lite.Toy. */
public final class CompiledModel extends JniHandle {
    public static final class Options {
        final Set<Accelerator> accelerators = EnumSet.noneOf(Accelerator.class);
        public Options(Accelerator... accelerators) { this.accelerators.addAll(List.of(accelerators)); }
    }

    private final List<String> lines;
    private CompiledModel(List<String> lines) { this.lines = lines; }

    public static CompiledModel create(String filePath, Options options, Environment optionalEnv) throws LiteRtException {
        Set<Accelerator> set = EnumSet.copyOf(options.accelerators);
        if (set.equals(EnumSet.of(Accelerator.NPU))) set.add(Accelerator.CPU); // Model.kt
        int taken = 0;
        for (Accelerator one : set) taken = Math.max(taken, Integer.getInteger("phone." + one, 0));
        if (set.contains(Accelerator.NPU) && !optionalEnv.npu) taken = 0;
        if (taken < 4 && !set.contains(Accelerator.CPU)) { // compiled_model.cc
            throw new LiteRtException("Some ops are not accelerated.\nAdd kLiteRtHwAcceleratorCpu to the compilation accelerator set");
        }
        int onCpu = Integer.getInteger("phone.leaks", 4 - taken); // a release that lets the CPU in
        if (onCpu > 0) {
            String line = "Replacing " + onCpu + " out of 4 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for subgraph 0.";
            android.util.Log.i("tflite", line);
        }
        try {
            return new CompiledModel(Files.readAllLines(Paths.get(filePath)));
        } catch (IOException error) {
            throw new LiteRtException("Failed to load model from file");
        }
    }

    public List<TensorBuffer> createInputBuffers() { return buffers("input"); }
    public List<TensorBuffer> createOutputBuffers() { return buffers("output"); }

    private List<TensorBuffer> buffers(String kind) {
        List<TensorBuffer> made = new ArrayList<>();
        for (String line : lines) {
            String[] words = line.split(" ");
            int size = words[2].equals("float32") ? 4 : 1;
            for (String side : words[3].split("x")) size *= Integer.parseInt(side);
            if (words[0].equals(kind)) made.add(new TensorBuffer(size));
        }
        return made;
    }

    public void run(List<TensorBuffer> inputs, List<TensorBuffer> outputs) {
        byte[] input = inputs.get(0).content;
        for (TensorBuffer output : outputs) {
            for (int i = 0; i < output.content.length; i++) output.content[i] = input[i % input.length];
        }
    }

    protected void destroy() {}
}
