/**
 * contract.json: what an export promises, read as strictly as the toolchain reads it (docs/contract.md).
 *
 * Unknown keys, other schemas (the first one's noise repeats between releases), and another version of the sampler or the noise are refused: a reader that does not understand a
 * promise must not pretend to keep it.
 *
 *     val contract = Contract.parse(bytes)
 *     contract.file(contract.model.file).check(modelBytes)
 */
package dev.sfumato.core

import java.security.MessageDigest

/** A file of the export, by [name]: its [sha256] in hexadecimal, its size in [bytes], and in [role] whom it is for: phone, cloud or audit. */
public data class BundleFile(val name: String, val sha256: String, val bytes: Long, val role: String) {
    /** Refuse content that is not the file the contract names. */
    public fun check(content: ByteArray) {
        if (content.size.toLong() != bytes || sha256(content) != sha256) {
            throw SfumatoException("$name is not the file the contract names (its sha256 differs): export again")
        }
    }
}

/**
 * An input or output of the local network, by [name]: shape (1, [height], [width], [planes]), real value = (byte - [zeroPoint]) * [scale].
 */
public data class TensorSpec(
    val name: String,
    val height: Int,
    val width: Int,
    val planes: Int,
    val scale: Double,
    val zeroPoint: Int,
) {
    /** Bytes of the tensor. */
    public val size: Int get() = height * width * planes
}

/** One [variant] of the local network: its [file], and the types of its [input] and [output]. */
public data class ModelSpec(val variant: String, val file: String, val input: String, val output: String)

/** The noisy channel. */
public sealed interface Channel {
    /** Bits a colour sample of the upload. */
    public val bits: Int

    /** Outputs of the network: name to planes. */
    public val outputs: Map<String, Int>

    /** Height and width of the square of pixels that a sample of the upload stands for. */
    public val subsample: Int get() = 1

    /** Samples a pixel of the upload: 3, or 1 of grey pictures. */
    public val colours: Int get() = 3

    /** Noise bytes that [samples] colour samples of the upload need. */
    public fun noiseBytes(samples: Int): Int

    /**
     * Every sample is one of 2^[bits] levels, drawn bit by bit, in [gray] code or plain; with [gates] blocks can be closed, with
     * [subsample] a sample stands for several pixels. Of grey pictures there is one of the [colours].
     */
    public data class Dither(
        override val bits: Int,
        val gates: Boolean = false,
        val gray: Boolean = false,
        override val subsample: Int = 1,
        override val colours: Int = 3,
    ) : Channel {
        override val outputs: Map<String, Int> get() = mapOf("p" to colours * bits)

        override fun noiseBytes(samples: Int): Int = samples * bits
    }

    /**
     * Mean plus normal noise, clipped and rounded; [additive]: the mean is the picture itself. [largestScale]: largest standard deviation, as
     * a multiple of the range of a pixel.
     */
    public data class Gaussian(val additive: Boolean, val largestScale: Double) : Channel {
        override val bits: Int get() = 8
        override val outputs: Map<String, Int> get() = if (additive) mapOf("scale" to 3) else mapOf("mean" to 3, "scale" to 3)

        override fun noiseBytes(samples: Int): Int = 2 * samples
    }

    /** The code word of the phone's own answer, one bit a colour sample; its network's output is no image. */
    public data object Answer : Channel {
        override val bits: Int get() = 1
        override val outputs: Map<String, Int> get() = emptyMap()

        /** A randomised answer draws once, from 16 bits. */
        override fun noiseBytes(samples: Int): Int = 2
    }
}

/**
 * A kept attribute by [name], and its [classes] in the order of the cloud's head; of a number also the [values] that they stand for,
 * of a mask the rows and columns of its [grid] of cells.
 */
public data class Kept(
    val name: String,
    val classes: List<String>,
    val values: List<Double>? = null,
    val grid: List<Int>? = null,
)

/** How an upload travels; [mediaType] is its HTTP content type. */
public enum class Encoding(public val mediaType: String) {
    /** A PNG of the upload's own bit depth. */
    PNG("image/png"),

    /** The bits of all samples, one after the other. */
    PACKED("application/vnd.sfumato.packed"),

    /** The bytes of a code word. */
    WORD("application/vnd.sfumato.word"),

    /** The index of an entry of the contract's book. */
    INDEX("application/vnd.sfumato.index"),
}

/**
 * How an answer becomes one of [words] words (docs/contract.md, "Answer"): [margins] are edges of the bins of a decision's margin,
 * [table] names the file of the randomised answer. [entropyBits] is what a word tells of a photo on average.
 */
public data class AnswerSpec(val words: Int, val margins: List<Int>, val table: String?, val entropyBits: Double) {
    /** Rows of the table for attributes with these numbers of classes. */
    internal fun states(classes: List<Int>): Long = classes.fold(1L) { rows, count -> rows * count * (count - 1) * (margins.size + 1) }
}

/**
 * A [strength] at which the model may be used. Measured there: in [accuracy] the share of right answers by attribute, in [meanBits] the mean
 * rate.
 */
public data class StrengthPoint(val strength: Int, val accuracy: Map<String, Double>, val meanBits: Double)

/** The whole contract; [sha256] names it in every request. */
@ConsistentCopyVisibility
public data class Contract internal constructor(
    val sha256: String,
    /** All files but contract.json itself. */
    val files: List<BundleFile>,
    /** What the network takes: the picture. */
    val input: TensorSpec,
    /** What it gives: parameters of the channel, or scores. */
    val outputs: List<TensorSpec>,
    /** The int8 variant. */
    val model: ModelSpec,
    /** How an upload is drawn. */
    val channel: Channel,
    /** How it travels unless a [Perturber] is told otherwise. */
    val encoding: Encoding,
    /** What the cloud answers. */
    val keep: List<Kept>,
    /** The attributes that training was told to hide. */
    val hide: List<String>,
    /** In answer mode alone. */
    val answer: AnswerSpec?,
    /** What ordinary photos look like; null in bundles of earlier versions. */
    val familiar: Familiar?,
    /** The strongest first; none where the model is used at full strength alone. */
    val points: List<StrengthPoint>,
    /** The book that uploads are entries of; null where they are no indices. */
    val index: IndexSpec? = null,
    /** The network takes pictures of recordings ([soundPicture]) instead of photos. */
    val sound: Boolean = false,
) {
    internal val code: IndexCode? by lazy {
        val dither = channel as? Channel.Dither
        if (index == null || dither == null) return@lazy null
        IndexCode(uploadHeight, uploadWidth, 3 * dither.bits, index.bits, dither.gray, index.power, index.memory)
    }

    /** [sha256] as 32 bytes: keyed noise depends on it. */
    public val digest: ByteArray get() = sha256.hexToByteArray()

    /** Rows of the picture that the network takes. */
    public val height: Int get() = input.height

    /** Its columns. */
    public val width: Int get() = input.width

    /** Planes of the picture that the network takes: 3, or 1 for grey. */
    public val planes: Int get() = input.planes

    /** Samples of the upload, of all colours. */
    internal val samples: Int get() = channel.colours * uploadHeight * uploadWidth

    /** Rows of the upload, in samples. */
    public val uploadHeight: Int get() = height / channel.subsample

    /** Its columns, in samples. */
    public val uploadWidth: Int get() = width / channel.subsample

    /** The file of this [name]; refused where the contract lists none. */
    public fun file(name: String): BundleFile =
        files.firstOrNull { it.name == name } ?: throw SfumatoException("$FILE does not list $name")

    public companion object {
        /** Its name in an export. */
        public const val FILE: String = "contract.json"
        /** The only schema that is read. */
        public const val SCHEMA: String = "sfumato-contract/2"
        internal const val SCORES = "scores"
        private const val REPEATING = "sfumato-contract/1"
        private const val LARGEST = 1 shl 20

        /** Check the bytes of a contract; the files it lists are not touched. */
        public fun parse(content: ByteArray): Contract {
            if (content.size > LARGEST) throw SfumatoException("$FILE is larger than a contract can be ($LARGEST bytes)")
            val root = parseJson(content, FILE).asObject(FILE)
            val schema = if ("schema" in root) root.text("schema") else "none"
            if (schema == REPEATING) {
                throw SfumatoException(
                    "$FILE has the schema $schema: its noise (version 1) repeats between releases, so two uploads of one photo can be " +
                        "compared; export the run again with this version",
                )
            }
            if (schema != SCHEMA) throw SfumatoException("$FILE has the schema $schema, this app reads $SCHEMA: update the app")
            return ContractReader(root).read(sha256(content))
        }
    }
}

/** SHA-256 in hexadecimal. */
internal fun sha256(content: ByteArray): String = MessageDigest.getInstance("SHA-256").digest(content).toHexString()

private class ContractReader(private val root: JsonObject) {
    fun read(digest: String): Contract {
        demand(root.text("crop") == CROP) { "crop is not the one this app knows" }
        for ((part, version) in listOf("sampler" to if ("index" in root) 2 else 1, "noise" to 2)) {
            demand(root.int(part) == version) { "$part is version ${root.int(part)}, this app draws version $version: update the app" }
        }
        for (free in listOf("cost", "conversion", "provenance")) root.map(free)
        readGates()
        readGoal()
        val mode = root.text("mode")
        demand(mode in MODES) { "unknown mode $mode: update the app" }
        val files = root.children("files").map(::readFile)
        val input = readTensor(root.child("input"))
        val channel = readChannel(root.child("channel"))
        val outputs = root.children("outputs").map(::readTensor)
        val models = root.children("models").map(::readModel)
        val found = Contract(
            sha256 = digest,
            files = files,
            input = input,
            outputs = outputs,
            model = models.firstOrNull { it.variant == "int8" }
                ?: throw SfumatoException("this export holds no int8 model: export again with the variant int8"),
            channel = channel,
            encoding = readUpload(root.child("upload"), channel, input),
            keep = root.children("keep").map(::readKept),
            hide = root.texts("hide"),
            answer = root.childOrNull("answer")?.let(::readAnswer),
            familiar = Familiar.read(root.child("figures")),
            points = root.childrenOrNull("points")?.map(::readPoint)?.also { demand(it.isNotEmpty()) { "points are empty" } }.orEmpty(),
            index = root.childOrNull("index")?.let(::readIndex),
            sound = root.childOrNull("sound")?.also(::checkRecipe) != null,
        )
        root.refuseOthers()
        val answering = listOf(found.channel == Channel.Answer, found.encoding == Encoding.WORD, found.answer != null)
        demand(answering.all { it == (mode == "answer") }) { "channel, upload and answer do not belong to the mode $mode" }
        demandConsistent(found, models)
        if (found.answer != null) demandAnswer(found, found.answer) else demandPicture(found)
        if (found.points.isNotEmpty()) demandPoints(found)
        demand((found.encoding == Encoding.INDEX) == (found.index != null)) { "upload and index do not belong together" }
        if (found.index != null) demandIndex(found, found.index)
        return found
    }

    /** The parts must agree with each other: those of a contract edited by hand seldom do. */
    private fun demandConsistent(found: Contract, models: List<ModelSpec>) {
        demand(found.input.name == "image" && found.planes in PLANES) { "the input must be image, in colour or grey" }
        demand(INPUTS.any { (scale, zero) -> near(found.input.scale, scale) && found.input.zeroPoint == zero }) {
            "the input's scale and zero point are none that pixels can have"
        }
        val names = found.files.map { it.name }
        demand(names.toSet().size == names.size && Contract.FILE !in names) { "a file is listed twice, or the contract lists itself" }
        demand(models.map { it.variant }.toSet().size == models.size) { "a variant is listed twice" }
        models.forEach { found.file(it.file) }
        demand(found.model.input == "int8" && found.model.output == "int8") { "the int8 model must take and give int8" }
        demand(found.keep.isNotEmpty()) { "keep is empty" }
        demand(!found.sound || found.height <= MOST_BANDS) { "a picture of sound has $MOST_BANDS rows at most" }
    }

    /** Parameters of a picture: an image of probabilities or scales, each byte a 256th. */
    private fun demandPicture(found: Contract) {
        demand(found.planes == found.channel.colours) { "the image has other planes than the upload" }
        demand(found.outputs.associate { it.name to it.planes } == found.channel.outputs && found.outputs.size <= 2) {
            "the outputs do not belong to the channel"
        }
        demand(found.outputs.all { it.height == found.uploadHeight && it.width == found.uploadWidth }) {
            "the outputs have another size than the upload"
        }
        demand(found.outputs.all { near(it.scale, 1 / 256.0) }) { "an output's scale is not the one of version 1" }
        demand(found.outputs.all { it.zeroPoint == -128 }) { "an output's zero point is not -128" }
    }

    /** Scores, words and table of an answer belong to the kept attributes. */
    private fun demandAnswer(found: Contract, answer: AnswerSpec) {
        val classes = found.keep.map { it.classes.size }
        val scores = found.outputs.singleOrNull()
        demand(scores?.name == Contract.SCORES && scores.planes == classes.sum()) { "the outputs do not belong to the channel" }
        demand(answer.words.toLong() == classes.fold(1L) { words, count -> words * count }) {
            "${answer.words} words do not belong to $classes classes"
        }
        if (answer.table != null) {
            val size = 4 * answer.states(classes) * answer.words
            demand(found.file(answer.table).bytes == size) { "${answer.table} must have $size bytes" }
        }
    }

    /** Points descend from full strength, and each says what was measured there. */
    private fun demandPoints(found: Contract) {
        demand(found.channel is Channel.Dither) { "points belong to the channel dither" }
        val strengths = found.points.map { it.strength }
        val descend = strengths.zipWithNext().all { (first, second) -> first > second }
        demand(strengths.first() == FULL_STRENGTH && strengths.last() >= 1 && descend) { "points do not descend from strength $FULL_STRENGTH" }
        val names = found.keep.map { it.name }.toSet()
        demand(found.points.all { it.accuracy.keys == names }) { "the accuracy of every point is that of the kept attributes" }
    }

    /** The book belongs to the channel. */
    private fun demandIndex(found: Contract, index: IndexSpec) {
        val channel = found.channel
        demand(channel is Channel.Dither && channel.bits <= 2 && !channel.gates && channel.colours == 3 && found.points.isEmpty()) {
            "an index belongs to the channel dither with 2 or 4 levels and three colours, without gates and points"
        }
        val pixels = found.uploadHeight * found.uploadWidth
        demand(pixels <= MOST_PIXELS && index.bits in pixels * channel.bits..pixels * minOf(3 * channel.bits, 4)) {
            "an index of ${index.bits} bits does not belong to ${found.uploadHeight} x ${found.uploadWidth} pixels"
        }
    }

    private fun readIndex(part: JsonObject): IndexSpec {
        val index = IndexSpec(part.int("bits"), part.int("power"), part.int("memory"))
        val version = part.int("version")
        part.refuseOthers()
        demand(version == 1 && index.power in 1..2 && index.memory in 4..10) { "this app does not know the contract's book: update the app" }
        return index
    }

    private fun checkRecipe(part: JsonObject) {
        val known = RECIPE.all { (name, value) -> part.int(name) == value }
        part.refuseOthers()
        demand(known) { "this app does not know the contract's recipe for sound: update the app" }
    }

    private fun readPoint(part: JsonObject): StrengthPoint {
        val accuracy = part.child("accuracy")
        fun figures(key: String, vararg names: String): List<Double> {
            val child = part.child(key)
            return names.map(child::number).also { child.refuseOthers() }
        }
        val rates = figures("rate_bits", "mean", "p95", "max")
        val sizes = figures("upload_bytes", "png", "packed")
        val point = StrengthPoint(part.int("strength"), accuracy.keys.associateWith(accuracy::number), rates.first())
        part.refuseOthers()
        demand(point.accuracy.values.all { it in 0.0..1.0 } && rates.all { it >= 0 } && sizes.all { it > 0 }) { "a point's figures are impossible" }
        return point
    }

    private fun readAnswer(part: JsonObject): AnswerSpec {
        val margins = part.list("margins").map { (it as? Long)?.takeIf { n -> n in 1..255 }?.toInt() ?: 0 }
        val answer = AnswerSpec(part.int("words"), margins, part.textOrNull("table"), part.number("entropy_bits"))
        val code = part.int("image_code")
        part.refuseOthers()
        demand(code == 1) { "the image code is $code, this app draws 1: update the app" }
        demand(answer.words in 2..MOST_WORDS) { "${answer.words} words are impossible" }
        demand((listOf(0) + margins).zipWithNext().all { (low, high) -> low < high }) { "the margins do not increase" }
        demand(answer.table != null || margins.isEmpty()) { "margins belong to a table" }
        return answer
    }

    /** What was asked for and reached: figures for whoever reads the contract, but of the right kind. */
    private fun readGoal() {
        val goal = root.childOrNull("goal") ?: return
        for (figure in GOALS) goal.numberOrNull(figure)
        goal.flag("met")
        goal.refuseOthers()
    }

    private fun readFile(part: JsonObject): BundleFile {
        val file = BundleFile(part.text("name"), part.text("sha256"), part.whole("bytes"), part.text("role"))
        part.refuseOthers()
        demand(NAME.matches(file.name)) { "'${file.name}' is no file name" }
        demand(DIGEST.matches(file.sha256) && file.bytes in 0..MOST_BYTES) { "${file.name}: sha256 or bytes is impossible" }
        demand(file.role in ROLES) { "${file.name}: unknown role ${file.role}" }
        return file
    }

    private fun readTensor(part: JsonObject): TensorSpec {
        val shape = part.list("shape").map { (it as? Long)?.takeIf { n -> n in 1..MOST_SIDE }?.toInt() ?: 0 }
        val name = part.text("name")
        val image = shape.size == 4 && shape[1] >= LEAST_SIDE && shape[2] >= LEAST_SIDE && shape[3] in 1..12
        val scores = shape.size == 4 && name == Contract.SCORES && shape[1] == 1 && shape[2] == 1 && shape[3] >= 1
        demand((image || scores) && shape[0] == 1) { "a tensor has an impossible shape" }
        demand(part.text("layout") == "NHWC" && part.list("range").size == 2) { "a tensor has another layout or range" }
        part.number("unit")
        val tensor = TensorSpec(
            name, shape[1], shape[2], shape[3], part.number("int8_scale"), part.int("int8_zero_point"),
        )
        part.refuseOthers()
        demand(tensor.scale > 0) { "a tensor's scale is not positive" }
        return tensor
    }

    private fun readModel(part: JsonObject): ModelSpec {
        val model = ModelSpec(part.text("variant"), part.text("file"), part.text("input"), part.text("output"))
        part.refuseOthers()
        demand(model.variant in VARIANTS) { "unknown variant ${model.variant}" }
        return model
    }

    private fun readChannel(part: JsonObject): Channel {
        val channel = when (val name = part.text("name")) {
            "dither" -> Channel.Dither(
                when (val levels = part.int("levels")) {
                    2 -> 1
                    4 -> 2
                    16 -> 4
                    else -> throw SfumatoException("${Contract.FILE}: dither has 2, 4 or 16 levels, not $levels")
                },
                gates = part.flagOrNull("gates") ?: false,
                gray = part.flagOrNull("gray") ?: false,
                subsample = part.intOrNull("subsample")?.also { demand(it in SUBSAMPLES) { "subsample is impossible" } } ?: 1,
                colours = part.intOrNull("colours")?.also { demand(it == 1) { "colours is impossible" } } ?: 3,
            ).also { demand(!it.gates || it.subsample == 1) { "gates close blocks of pixels: they have no subsample" } }
            "gaussian" -> {
                val largest = part.number("largest_scale")
                val reference = part.number("reference_scale")
                demand(reference > 0 && reference <= 100) { "reference_scale is impossible" }
                gaussianFactor(largest)
                Channel.Gaussian(part.flag("additive"), largest)
            }
            "answer" -> Channel.Answer.also { demand(part.int("levels") == 2) { "an answer has two levels" } }
            else -> throw SfumatoException("${Contract.FILE}: unknown channel $name: update the app")
        }
        part.refuseOthers()
        return channel
    }

    private fun readUpload(part: JsonObject, channel: Channel, input: TensorSpec): Encoding {
        val grey = channel.bits < 8
        val side = channel.subsample
        demand(input.height % side == 0 && input.width % side == 0) { "the picture is no whole number of the channel's squares" }
        val found = listOf(part.int("bit_depth"), part.int("width"), part.int("height"), part.text("colour"))
        val (height, width) = listOf(input.height / side, input.width / side)
        val colour = if (!grey) "rgb" else if (channel.colours == 1) ONE_PLANE else GREY
        val expected = listOf(channel.bits, width, if (grey) channel.colours * height else height, colour)
        demand(found == expected) { "the upload does not belong to the channel" }
        val encoding = when (val name = part.text("encoding")) {
            "png" -> Encoding.PNG
            "packed" -> Encoding.PACKED
            "word" -> Encoding.WORD
            "index" -> Encoding.INDEX
            else -> throw SfumatoException("${Contract.FILE}: unknown encoding $name: update the app")
        }
        part.refuseOthers()
        return encoding
    }

    private fun readKept(part: JsonObject): Kept {
        val kept = Kept(part.text("name"), part.texts("classes"), part.numbersOrNull("values"), readGrid(part))
        part.refuseOthers()
        demand(kept.classes.size >= 2) { "${kept.name} has fewer than two classes" }
        demand(kept.values == null || kept.values.size == kept.classes.size) { "the values of ${kept.name} do not belong to its classes" }
        demand(kept.values == null || kept.grid == null) { "${kept.name} has values and a grid" }
        return kept
    }

    private fun readGrid(part: JsonObject): List<Int>? {
        val grid = part.numbersOrNull("grid") ?: return null
        val fits = grid.size == 2 && grid.all { it % 1 == 0.0 && it in 1.0..MOST_CELLS } && grid[0] * grid[1] <= MOST_CELLS
        demand(fits) { "a mask has rows and columns of at most ${MOST_CELLS.toInt()} cells" }
        return grid.map(Double::toInt)
    }

    /** A gate that failed: the export must not be used, whoever packed it. */
    private fun readGates() {
        for (gate in root.children("gates")) {
            demand(gate.flag("passed")) { "the gate '${gate.text("name")}' does not hold: export again" }
        }
    }

    private fun near(found: Double, expected: Double) = Math.abs(found - expected) < 1e-9

    private inline fun demand(holds: Boolean, problem: () -> String) {
        if (!holds) throw SfumatoException("${Contract.FILE}: ${problem()}")
    }

    private companion object {
        const val CROP = "centre, then antialiased bilinear (docs/contract.md)"
        const val GREY = "grey, planes red, green, blue one below the other"
        const val ONE_PLANE = "grey"
        val PLANES = setOf(1, 3)
        const val MOST_BYTES = 1L shl 28
        const val MOST_SIDE = 4096L
        const val MOST_WORDS = 65536
        const val MOST_PIXELS = 65_536
        const val MOST_CELLS = 65_536.0
        val MODES = setOf("picture", "answer")
        val GOALS = listOf("target_bits", "reached_bits", "beyond_target_bits", "beyond_reached_bits", "max_drop")
        const val LEAST_SIDE = 16
        val SUBSAMPLES = setOf(2, 4)

        /** Scale and zero point of the image: pixels 0..1, or 8 (x - 128/255) of them. The bytes are the same. */
        val INPUTS = listOf(1 / 255.0 to -128, 8 / 255.0 to 0)
        val NAME = Regex("[a-z0-9_]+(\\.[a-z0-9]+)?(/[a-z0-9_]+\\.[a-z0-9]+)?")
        val DIGEST = Regex("[0-9a-f]{64}")
        val ROLES = setOf("phone", "cloud", "audit")
        val VARIANTS = setOf("float32", "float16", "dynamic", "int8")
    }
}
