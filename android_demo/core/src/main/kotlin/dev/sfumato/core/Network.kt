/**
 * The local network as this module sees it: tensors in, tensors out. The app brings LiteRT's interpreter, tests bring their own.
 *
 *     checkTensors(contract, network)
 *     val q = network.run(flipTopBit(picture.rgb))
 */
package dev.sfumato.core

/** Where the network is to run. Which of them an app offers depends on its runtime. */
public enum class Accelerator {
    /** XNNPACK on the processor. */
    CPU,

    /** Android's neural networks API, on a vendor's driver. */
    NNAPI,

    /** The phone's graphics processor. */
    GPU,

    /** A vendor's neural processor, without Android's API between. */
    NPU,
    ;

    /** How TensorFlow Lite calls the delegate in its log; null for the NPU, which has none there. */
    internal val delegateName: String?
        get() = when (this) {
            CPU -> "TfLiteXNNPackDelegate"
            NNAPI -> "TfLiteNnapiDelegate"
            GPU -> "TfLiteGpuDelegate"
            NPU -> null
        }
}

/**
 * A tensor of a loaded model by [name], with its [shape]; [type] is `int8` or `float32`. Real value = (byte - [zeroPoint]) * [scale], which is 0
 * where it is not quantised.
 */
public data class TensorInfo(val name: String, val shape: List<Int>, val type: String, val scale: Float, val zeroPoint: Int)

/** What a delegate really took: [delegated] of [nodes] nodes, in [partitions] pieces, those of the CPU included. */
public data class Delegation(val nodes: Int?, val delegated: Int, val partitions: Int) {
    public companion object {
        private val LINE = Regex(
            "Replacing (\\d+) (?:out of (\\d+) )?node\\(s\\) with delegate \\((\\w+)\\) node, yielding (\\d+) partitions",
        )

        /**
         * The runtime's Java API has no call for what a delegate took; its log names it. The last line about this accelerator's
         * delegate counts; null if there is none.
         */
        public fun fromLog(lines: List<String>, accelerator: Accelerator): Delegation? {
            val name = accelerator.delegateName ?: return null
            return lines.mapNotNull(LINE::find).lastOrNull { it.groupValues[3].startsWith(name) }?.let { match ->
                val (delegated, nodes, _, partitions) = match.destructured
                Delegation(nodes.toIntOrNull(), delegated.toInt(), partitions.toInt())
            }
        }
    }
}

/** A loaded model with one input. Not safe for several threads; some delegates even want the thread that loaded them. */
public interface LocalNetwork : AutoCloseable {
    /** The model's inputs: one. */
    public val inputs: List<TensorInfo>

    /** The model's outputs, in the order of [read]. */
    public val outputs: List<TensorInfo>

    /** What the delegate took; null where the runtime does not say, which [requireTaken] lets the CPU alone do. */
    public val delegation: Delegation?

    /** Whether the runtime compiled the model for the accelerator alone, and would have refused to leave a node to the CPU. */
    public val fullyAccelerated: Boolean get() = false

    /** Put bytes into the input, in the order of memory. */
    public fun fill(input: ByteArray)

    /** One inference and nothing else. */
    public fun invoke()

    /** Raw bytes of each output after the last inference, in the order of [outputs]. */
    public fun read(): List<ByteArray>

    /** What [read] gives, by the outputs' names. */
    public fun readByName(): Map<String, ByteArray> = outputs.map { it.name }.zip(read()).toMap()

    /** Bytes of the input to bytes of every output, by name. */
    public fun run(input: ByteArray): Map<String, ByteArray> {
        fill(input)
        invoke()
        return readByName()
    }
}

/** Makes networks. */
public fun interface NetworkFactory {
    /**
     * Load a model. Refuses with a [SfumatoException] that gives the runtime's reason; never falls back to another accelerator.
     */
    public fun open(model: ByteArray, accelerator: Accelerator, threads: Int): LocalNetwork
}

/**
 * This network; closes and refuses it where the accelerator runs no node of it.
 *
 * A delegate that takes nothing is silent: NNAPI without a vendor's driver gives no error and writes no line, and XNNPACK then runs the
 * whole model (nnapi_delegate.cc of LiteRT 1.4, StatefulNnApiDelegate::DoPrepare). So a missing line refuses as a zero does. The CPU
 * alone may be without a line: nothing can run in its place. A model that is [LocalNetwork.fullyAccelerated] needs none.
 */
public fun <N : LocalNetwork> N.requireTaken(accelerator: Accelerator): N {
    val found = delegation
    if (fullyAccelerated || found == null && accelerator == Accelerator.CPU || found != null && found.delegated > 0) return this
    close()
    val name = accelerator.delegateName
    val missing = if (name == null) "the runtime does not say that it took any" else "TensorFlow Lite's log has no line of $name"
    val why = found?.let { "0 of ${it.nodes ?: "its"} nodes" } ?: missing
    throw SfumatoException("$accelerator takes no node of this model ($why), and nothing runs in its place")
}

/** Compare names, shapes, types, scales and zero points of a loaded model with the contract. */
internal fun checkTensors(contract: Contract, network: LocalNetwork) {
    check(listOf(contract.input), network.inputs)
    check(contract.outputs, network.outputs)
}

private fun check(expected: List<TensorSpec>, found: List<TensorInfo>) {
    if (expected.map { it.name }.toSet() != found.map { it.name }.toSet() || expected.size != found.size) {
        throw SfumatoException("the model's tensors are ${found.joinToString { it.name }}: not what the contract names")
    }
    for (spec in expected) {
        val tensor = found.first { it.name == spec.name }
        val shape = listOf(1, spec.height, spec.width, spec.planes)
        if (tensor.shape != shape || tensor.type != "int8") {
            throw SfumatoException("the model's ${spec.name} is ${tensor.type} ${tensor.shape}, the contract says int8 $shape")
        }
        if (Math.abs(tensor.scale - spec.scale) > 1e-6 * spec.scale || tensor.zeroPoint != spec.zeroPoint) {
            throw SfumatoException(
                "the model's ${spec.name} has scale ${tensor.scale} and zero point ${tensor.zeroPoint}, " +
                    "the contract says ${spec.scale} and ${spec.zeroPoint}",
            )
        }
    }
}
